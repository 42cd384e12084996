"""Write the completion scripts: `python -m fusecli.completions [FOLDER]`."""

import sys
from collections.abc import Callable
from pathlib import Path

from fusecli.cli import app
from fusecli.completions import Node, tree
from fusecli.completions.bash import bash
from fusecli.completions.fish import fish
from fusecli.completions.powershell import powershell
from fusecli.completions.zsh import zsh

SCRIPTS: dict[str, Callable[[Node], str]] = {
    "fusecli.bash": bash,
    "_fusecli": zsh,
    "fusecli.fish": fish,
    "fusecli.ps1": powershell,
}


def write(folder: Path) -> None:
    """Write all scripts for the installed command line into a folder."""
    root = tree(app)
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in SCRIPTS.items():
        (folder / name).write_text(script(root), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "completions"))
