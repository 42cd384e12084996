"""Measure everything again and write it into `benchmarks/RESULTS.md`.

    python -m benchmarks [networks scaling ...]

The page says itself what is measured: what stands between `<!-- COMMAND -->` and `<!-- end -->` is
replaced by what the command prints, as soon as it has. Names choose some of the commands; `reach`
is always renewed, last, because it reads the tables of the others. All of it takes about 20 minutes
of processor time.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("RESULTS.md")
PLACE = re.compile(r"(<!-- (python [^\n]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def printed(command: str) -> str:
    """Return what a command prints, as a fenced block where that is no table."""
    print(command, file=sys.stderr)
    _, *arguments = shlex.split(command)
    done = subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, cwd=PAGE.parents[1]
    )
    text = done.stdout.strip()  # also of one whose exit status says that a limit was not kept
    if not text:
        sys.exit(f"{command} printed nothing")
    return f"{text}\n" if "|---" in text else f"```\n{text}\n```\n"


def renew(wanted: re.Pattern[str]) -> None:
    """Run the commands of the page that match, and write each result into the page."""
    for _, command, _ in PLACE.findall(PAGE.read_text("utf-8")):
        if wanted.search(command):
            replace(command, printed(command))


def replace(command: str, text: str) -> None:
    """Put a text in the place of what the page holds of a command."""

    def block(found: re.Match[str]) -> str:
        return found[1] + text + found[3] if found[2] == command else found[0]

    PAGE.write_text(PLACE.sub(block, PAGE.read_text("utf-8")), "utf-8")


def main() -> None:
    """Renew the tables whose commands were named, or all of them."""
    names = [re.escape(name) for name in sys.argv[1:]]
    renew(re.compile("|".join(names) if names else r"benchmarks(?!\.reach)"))
    renew(re.compile(r"benchmarks\.reach"))


if __name__ == "__main__":
    main()
