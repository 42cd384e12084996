"""Files that are there whole or not at all."""

import contextlib
import errno
import glob
import hashlib
import os
import secrets
from collections.abc import Callable

from fusecli.errors import InputError

NAME_MAX = 255  # bytes, of every common file system
PART = ".part"


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


def remove_leftovers(path: str) -> int:
    """Remove the `.part` files that killed runs left of one item; return how many.

    Args:
        path: The final name, as given to `write_atomic`.
    """
    folder, name = os.path.split(path)
    stem = glob.escape(os.path.join(folder, _part_prefix(name)))
    found = glob.glob(stem + "[0-9a-f]" * 8 + PART, include_hidden=True)
    for part in found:
        _discard(part)
    return len(found)


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
