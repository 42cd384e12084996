"""Files that are there whole or not at all."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable
from typing import BinaryIO

from fusecli.errors import InputError

NAME_MAX = 255  # bytes, of every common file system
PART = ".part"


def write_atomic(path: str, data: bytes) -> None:
    """Write `data` beside `path` and rename it over `path` when it is complete.

    Args:
        path: Final name; its folder is created.
        data: The whole content.

    Raises:
        InputError: `write.full`, `write.permission` or `write.failed`.
    """
    part = write_part(path, data)
    try:
        os.replace(part, path)
    except OSError as error:
        discard(part)
        raise refused(path, error) from error


def write_part(path: str, data: bytes | Callable[[BinaryIO], None]) -> str:
    """Write `data` beside `path` under a name of its own, which is returned.

    Args:
        path: The final name, given later by a rename; its folder is created.
        data: The whole content, or what writes it into the file.

    Raises:
        InputError: `write.full`, `write.permission` or `write.failed`; nothing is left behind.
    """
    folder, name = os.path.split(path)
    part = os.path.join(folder, f"{part_prefix(name)}{secrets.token_hex(4)}{PART}")
    try:
        if folder:
            os.makedirs(folder, exist_ok=True)
        # Not mkstemp: its files are private, and the umask should decide.
        with open(part, "xb+") as file:  # noqa: PTH123
            if callable(data):
                data(file)
            else:
                file.write(data)
    except OSError as error:
        discard(part)
        raise refused(path, error) from error
    except BaseException:  # Ctrl-C too must leave nothing behind
        discard(part)
        raise
    return part


def part_of(name: str) -> str | None:
    """Return the `part_prefix` of the file that a part belongs to; None for any other file."""
    match = re.fullmatch(r"(\..+\.)[0-9a-f]{8}\.part", name, re.DOTALL)
    return match[1] if match else None


def part_prefix(name: str) -> str:
    """Return how the names of a file's parts begin: `.<name>.`.

    A digest takes the place of a name that would become too long.
    """
    if len(os.fsencode(name)) + len(PART) + 10 > NAME_MAX:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}."


def discard(part: str) -> None:
    """Remove a part, if it is there and may be removed."""
    with contextlib.suppress(OSError):
        os.unlink(part)


def refused(path: str, error: OSError) -> InputError:
    """Return why a file could not be written, with a code for the reason."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        code, hint = "write.full", "free some space, then repeat the command with --resume"
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        code, hint = "write.permission", "choose another folder with -o"
    else:
        code, hint = "write.failed", "choose another folder with -o"
    reason = error.strerror or str(error)
    return InputError(
        f"cannot write {path}: {reason}", code=code, hint=hint, details={"path": path}
    )
