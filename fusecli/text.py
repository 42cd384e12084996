"""Text from outside, above all the names of files, on its way to a screen, a page or a file.

A name may hold anything but a zero byte and a slash: escape sequences, line breaks, marks that
turn the direction of writing, and bytes that are no UTF-8 (Python carries each of those as a lone
surrogate). Where people read it, what cannot be seen is written out; where programs read it, it
comes back as it was.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

# Controls, marks of direction and width, separators of lines, bytes that are no text.
UNSEEN = "\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
_UNSEEN = re.compile(f"[{UNSEEN}]")
_UNSEEN_OR_CONTROL = re.compile(f"[\x00-\x1f{UNSEEN}]")


def visible(text: str) -> str:
    r"""Return text on one line in which nothing is hidden: a stray byte becomes `\xdf`."""
    return _UNSEEN_OR_CONTROL.sub(lambda match: _written_out(match[0]), text)


def _written_out(letter: str) -> str:
    number = ord(letter)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a name that is not UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def markup(text: str) -> str:
    """Return visible text for Rich, to which brackets in it mean nothing."""
    return escape(visible(text))


def talk(*, stderr: bool = True, soft_wrap: bool = True) -> Console:
    """Return a console that takes no part of a sentence for a number or an emoji."""
    return Console(stderr=stderr, highlight=False, emoji=False, soft_wrap=soft_wrap)


def as_json(document: Any, **options: Any) -> str:
    r"""Return JSON in UTF-8 for people and programs: what cannot be seen is `\uNNNN`.

    Reading it gives the very same text back, lone surrogates too.
    """
    text = json.dumps(document, ensure_ascii=False, **options)
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write_path(path: str, end: str = "\n") -> None:
    """Print a path on stdout: byte for byte into a pipe, visible on a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(visible(path) + end)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + end.encode())
    sys.stdout.flush()
