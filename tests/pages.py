"""The pages of the documentation, and the blocks of commands and Python on them.

A comment directly above a block says when it can run: `<!-- slow -->`, `<!-- with the files above
-->` (in a fusecli that has the files which the page prints), `<!-- with the picture sets -->`,
`<!-- with the authors' files -->`, several of these with commas between them, or
`<!-- shown, not run: REASON -->`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(
    r"(?:<!--\s*(?P<mark>[^>]*?)\s*-->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SLOW = "slow"
ADDED = "with the files above"
SETS = "with the picture sets"
AUTHORS = "with the authors' files"
SHOWN = "shown, not run: "


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    mark: str

    @property
    def marks(self) -> frozenset[str]:
        """What it needs; empty for a block that runs anywhere."""
        return frozenset(self.mark.split(", ")) if self.mark else frozenset()

    @property
    def shown_only(self) -> bool:
        return self.mark.startswith(SHOWN)

    @property
    def commands(self) -> Iterator[str]:
        """The lines of a shell block, without comments, continued ones joined."""
        for line in self.text.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+#\s.*$", "", line)
            if line.strip():
                yield line

    @property
    def file(self) -> str | None:
        """The path in a first line such as `# fusecli/models/blend.py`."""
        found = re.match(r"# (fusecli/\S+\.py)\n", self.text)
        return found[1] if found else None


def blocks(page: Path, language: str) -> list[Block]:
    found = [
        Block(m["language"], m["text"], m["mark"] or "")
        for m in FENCED.finditer(page.read_text("utf-8"))
    ]
    for block in found:
        known = block.marks <= {SLOW, ADDED, SETS, AUTHORS}
        assert block.shown_only or known, f"unknown mark in {page.name}: {block.mark}"
    return [block for block in found if block.language == language]
