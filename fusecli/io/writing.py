"""Files that are there whole or not at all."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable

from fusecli.errors import InputError

NAME_MAX = 255  # bytes, of every common file system
PART = ".part"
_PART_NAME = re.compile(r"(\..+\.)[0-9a-f]{8}" + re.escape(PART), re.DOTALL)


def write_atomic(path: str, data: bytes, commit: Callable[[], None] | None = None) -> None:
    """Write `data` beside `path` and rename it over `path` when it is complete.

    Args:
        path: Final name; its folder is created.
        data: The whole content.
        commit: Called between the two: the manifest line is flushed here, so that a kill never
            leaves a finished file unrecorded.

    Raises:
        InputError: `write.full`, `write.permission` or `write.failed`.
    """
    folder, name = os.path.split(path)
    part = os.path.join(folder, f"{_part_prefix(name)}{secrets.token_hex(4)}{PART}")
    try:
        if folder:
            os.makedirs(folder, exist_ok=True)
        # Not mkstemp: its files are private, and the umask should decide.
        with open(part, "xb") as file:  # noqa: PTH123
            file.write(data)
        if commit is not None:
            commit()
        os.replace(part, path)
    except OSError as error:
        _discard(part)
        raise _refused(path, error) from error
    except BaseException:  # Ctrl-C too must leave nothing behind
        _discard(part)
        raise


def remove_leftovers(paths: Iterable[str]) -> int:
    """Remove the `.part` files that killed runs left of these items; return how many.

    Other files in the folders stay: another shard may be writing them at this moment.

    Args:
        paths: Final names, as given to `write_atomic`. Each of their folders is listed once.
    """
    prefixes: dict[str, set[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        prefixes.setdefault(folder, set()).add(_part_prefix(name))
    removed = 0
    for folder, own in prefixes.items():
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue  # not there yet
        for name in names:
            match = _PART_NAME.fullmatch(name)
            if match and match[1] in own:
                _discard(os.path.join(folder, name))
                removed += 1
    return removed


def _part_prefix(name: str) -> str:
    """Return `.<name>.`, or a digest in place of a name that would become too long."""
    if len(os.fsencode(name)) + len(PART) + 10 > NAME_MAX:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}."


def _discard(part: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(part)


def _refused(path: str, error: OSError) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        code, hint = "write.full", "free some space, then repeat the command with --resume"
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        code, hint = "write.permission", "choose another folder with -o"
    else:
        code, hint = "write.failed", None
    reason = error.strerror or str(error)
    return InputError(
        f"cannot write {path}: {reason}", code=code, hint=hint, details={"path": path}
    )
