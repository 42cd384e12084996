"""Finding image files below a file, folder or glob, and the keys that name them.

A file's key is its relative path, `/`-separated, without the suffix, in Unicode NFC. Everything
here is text and `os.scandir`: a million `Path` objects would take twice the memory, and
`fusecli --help` must not pay for numpy.
"""

import fnmatch
import glob
import os
import re
import shlex
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from fusecli.errors import InputError, UsageError
from fusecli.pairs import mismatch

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pfm", ".npy")
)
MAX_PIXELS = 1 << 28  # a 16384 x 16384 picture; beyond it a file is taken for a bomb


@dataclass(frozen=True, slots=True)
class Found:
    """What a file, folder or glob stands for.

    Args:
        base: Folder that keys start from, as the user wrote it; "" is the working directory.
        paths: Sorted; each begins with `base`.
        start: Where in a path the part relative to `base` begins.
        ignored: How many files have a suffix that is not read.
        single: True when the source is one file.
    """

    base: str
    paths: list[str]
    start: int
    ignored: int = 0
    single: bool = False

    def relative(self, path: str) -> str:
        """Return one of `paths` relative to `base`."""
        return path[self.start :]


def find_files(source: str, recursive: bool = False) -> dict[str, str]:
    """Return `{key: path}` of a file, folder or glob, in key order.

    Raises:
        InputError: `read.missing`, `read.permission`, `pair.empty`, or `pair.duplicate`.
    """
    found = scan(source, recursive)
    check_some(source, found, "", recursive)
    files, _ = keyed_files(found, key_maker(None, "", twins(found)))
    return dict(sorted(files.items()))


def key_of(path: str) -> str:
    """Return the key of a relative path: `/`-separated, without an image suffix, NFC."""
    return unicodedata.normalize("NFC", _spelling(path))


def _spelling(path: str) -> str:
    stem, suffix = os.path.splitext(path)
    return (stem if suffix.lower() in SUFFIXES else path).replace(os.sep, "/")


def twins(found: Found) -> frozenset[str]:
    """Return the keys of files whose names differ in nothing but how Unicode spells a letter.

    Composed and decomposed letters are one key, so that macOS and Linux agree; where a folder
    holds both, each keeps its own spelling as key.
    """
    spellings: dict[str, set[str]] = {}
    for path in found.paths:
        if not path.isascii():
            spelling = _spelling(found.relative(path))
            spellings.setdefault(unicodedata.normalize("NFC", spelling), set()).add(spelling)
    return frozenset(key for key, several in spellings.items() if len(several) > 1)


def check_key(key: str, where: str = "", *, typed: bool = True) -> str:
    """Return `key` when it stays below the output folder.

    Args:
        key: Of a pair.
        where: Begins the error: file and line.
        typed: Someone wrote it down, so it holds no control characters; names of files may.

    Raises:
        InputError: `pair.key`: empty, absolute, climbing with `..`, or with a control character.
    """
    parts = re.split(r"[/\\]" if os.sep == "\\" else "/", key)
    drive = os.path.splitdrive(key)[0]
    unprintable = typed and any(ord(letter) < 32 or ord(letter) == 127 for letter in key)
    if drive or unprintable or any(part in ("", ".", "..") for part in parts):
        raise InputError(
            f"{where}{key!r} cannot name an output: it would not stay inside OUT",
            code="pair.key",
            hint="a key is a relative path without '..', empty parts or control characters",
            details={"key": key},
        )
    return key


def pixel_limit() -> int:
    """Return how many pixels a picture may have: `FUSECLI_MAX_PIXELS`, or `MAX_PIXELS`.

    Raises:
        UsageError: Not a positive number (`usage.max_pixels`).
    """
    text = os.environ.get("FUSECLI_MAX_PIXELS", "")
    if text and not (text.isdecimal() and int(text)):
        raise UsageError(
            f"FUSECLI_MAX_PIXELS={text} is not a number of pixels",
            code="usage.max_pixels",
            hint=f"unset it, or export FUSECLI_MAX_PIXELS={MAX_PIXELS}",
        )
    return int(text or MAX_PIXELS)


def natural(text: str) -> tuple[str | int, ...]:
    """Return a sort key that puts `frame2` before `frame10`."""
    pieces = re.split(r"(\d+)", text)
    return tuple(int(p) if odd % 2 else p for odd, p in enumerate(pieces))


# --- finding files -----------------------------------------------------------------------------


def scan(source: str, recursive: bool) -> Found:
    """Return the image files of a file, folder or glob.

    Raises:
        InputError: `read.missing` or `read.permission`.
    """
    if os.path.isdir(source):
        return _scan_folder(source, recursive)
    if os.path.exists(source):
        # Named outright, a file needs no known suffix: its content decides.
        folder, name = os.path.split(source)
        return Found(folder, [source], len(source) - len(name), single=True)
    if glob.has_magic(source):
        return _scan_glob(source)
    raise InputError(
        f"there is no file or folder '{source}'",
        code="read.missing",
        details={"path": source},
        hint=mismatch.nearest_sibling(source),
    )


def _scan_folder(
    folder: str, recursive: bool, wanted: Callable[[str], bool] = lambda relative: True
) -> Found:
    """Return the image files below a folder whose relative path is wanted."""
    start = len(os.path.join(folder, ""))
    paths: list[str] = []
    ignored = 0
    # Each waiting folder carries the identities of those above it: a link back up would never end.
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while waiting:
        here, above = waiting.pop()
        try:
            status = os.stat(here or ".")
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            with os.scandir(here or ".") as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = os.path.join(here, entry.name)
                    if entry.is_dir():
                        if recursive:
                            waiting.append((path, (*above, identity)))
                    elif not wanted(path[start:]):
                        continue
                    elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                        paths.append(path)
                    else:
                        ignored += 1
        except OSError as error:
            raise InputError(
                f"cannot list folder '{here}': {error.strerror}",
                code="read.permission" if isinstance(error, PermissionError) else "read.missing",
                hint=f"ls -ld {shlex.quote(here)} shows what it is and who may read it",
                details={"path": here},
            ) from None
    paths.sort()
    return Found(folder, paths, start, ignored)


def _scan_glob(pattern: str) -> Found:
    """Expand a pattern; keys start at the part before the first wildcard.

    Not `glob.glob`: it follows links that lead back up, and says nothing of what it passes over.
    """
    parts = pattern.split("/") if os.sep == "/" else re.split(r"[/\\]", pattern)
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    folder = os.sep.join(parts[:first]) or (os.sep if first else "")
    rest = tuple(part for part in parts[first:] if part)

    def wanted(relative: str) -> bool:
        return _glob_matches(tuple(relative.split(os.sep)), rest)

    return _scan_folder(folder, len(rest) > 1 or "**" in rest, wanted)


def _glob_matches(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Return whether a path, in parts, matches a pattern; `**` is any number of parts."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_glob_matches(path[i:], pattern[1:]) for i in range(len(path) + 1))
    if not path or not fnmatch.fnmatch(path[0], pattern[0]):
        return False
    return _glob_matches(path[1:], pattern[1:])


def check_some(source: str, found: Found, side: str, recursive: bool) -> None:
    """Refuse a source without images (`pair.empty`)."""
    if found.paths:
        return
    others = f" ({found.ignored} files with other suffixes)" if found.ignored else ""
    hint = f"suffixes read: {' '.join(sorted(SUFFIXES))}"
    if os.path.isdir(source) and not recursive:
        with os.scandir(source) as entries:
            if any(entry.is_dir() and not entry.name.startswith(".") for entry in entries):
                hint = "its sub-folders were not searched: use --recursive"
    raise InputError(
        f"no {side + ' ' if side else ''}images in '{source}'{others}",
        code="pair.empty",
        hint=hint,
        details={"path": source, "ignored": found.ignored},
    )


def key_maker(
    pair_regex: str | None, suffix: str, several: frozenset[str] = frozenset()
) -> Callable[[str], str | None]:
    """Return the function from relative path to key; None where the regex does not match.

    Args:
        pair_regex: As in `--pair-regex`.
        suffix: Stripped from the end of keys.
        several: Keys with several spellings, which files keep: see `twins`.
    """

    def spelled(name: str, text: str) -> str:
        composed = unicodedata.normalize("NFC", text)
        return text if composed != text and several and key_of(name) in several else composed

    if pair_regex is None:
        return lambda name: _strip(spelled(name, _spelling(name)), spelled(name, suffix))
    try:
        pattern = re.compile(pair_regex)
    except re.error as error:
        raise UsageError(
            f"--pair-regex {pair_regex!r} is not a regular expression: {error}",
            code="pair.regex",
            hint="what the parentheses hold is the key, as in --pair-regex '(\\d+)_'",
        ) from None
    if not pattern.groups:
        raise UsageError(
            f"--pair-regex {pair_regex!r} has no group to be the key",
            code="pair.regex",
            hint="put the part that both names share in brackets, for example '([0-9]+)'",
        )
    groups: tuple[str | int, ...] = tuple(range(1, pattern.groups + 1))
    if "key" in pattern.groupindex:
        groups = ("key",)

    def key(name: str) -> str | None:
        match = pattern.search(name.replace(os.sep, "/"))
        text = "/".join(match[group] for group in groups if match[group]) if match else ""
        return check_key(spelled(name, text), typed=False) if text else None

    return key


def _strip(key: str, suffix: str) -> str:
    # A stem that is nothing but the suffix stays: an empty key could not name an output.
    bare = key.removesuffix(suffix)
    return bare if bare and not bare.endswith("/") else key


def keyed_files(
    found: Found, make_key: Callable[[str], str | None]
) -> tuple[dict[str, str], list[str]]:
    """Return `{key: path}` and the paths for which there is no key."""
    keyed: dict[str, str] = {}
    lost: list[str] = []
    twice: dict[str, list[str]] = {}
    for path in found.paths:
        key = make_key(found.relative(path))
        if key is None:
            lost.append(path)
        elif key in keyed:
            twice.setdefault(key, [keyed[key]]).append(path)
        else:
            keyed[key] = path
    if twice:
        first, second = next(iter(twice.values()))[:2]
        narrow = os.path.join(os.path.dirname(first), "*" + os.path.splitext(first)[1])
        same_stem = os.path.splitext(first)[0] == os.path.splitext(second)[0]
        raise InputError(
            f"{len(twice)} {'key has' if len(twice) == 1 else 'keys have'} more than one file "
            f"in '{found.base or '.'}'",
            code="pair.duplicate",
            facts=[_shared(key, paths) for key, paths in list(twice.items())[:10]],
            hint=f"choose one kind with a quoted glob: '{narrow}'"
            if same_stem
            else "take more of the path into the key: several groups of --pair-regex make one",
            details={"keys": list(twice)[:100]},
        )
    return keyed, lost


def _shared(key: str, paths: list[str]) -> str:
    more = f"   and {len(paths) - 2} more" if len(paths) > 2 else ""
    return f"{key}: {'   '.join(paths[:2])}{more}"


def real_path(path: str) -> str:
    """Return a path without links, fit for comparing; "" is the working directory."""
    return os.path.normcase(os.path.realpath(path or "."))


def is_inside(path: str, folder: str) -> bool:
    """Return whether a real path lies below a real folder."""
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def check_out(out: str, source: str, found: Found, recursive: bool) -> None:
    """Refuse an OUT whose files a second run would take for inputs, or that is an input."""
    real, base = real_path(out), real_path(found.base)
    if found.single:
        clash = real == real_path(found.paths[0])
    else:
        deep = recursive or "**" in source
        clash = real == base or (deep and is_inside(real, base))
    if clash:
        raise UsageError(
            f"OUT '{out}' lies inside the input '{source}'",
            code="out.inside",
            hint="choose a folder outside IR and VIS: outputs would become inputs of the next run",
            details={"out": out, "source": source},
        )
