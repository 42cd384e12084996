"""Write the figures of `benchmarks.quality` into the model cards. For maintainers.

    python -m benchmarks.quality ../shared/data --json > scores.json
    python -m training.cards scores.json

Replaces the section "Scores" of `weights/NAME.md` for each network in the file.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.quality import LABELS

WEIGHTS = Path(__file__).parents[1] / "weights"
INTRODUCTION = (
    "Means over the test sets; conventions " + ", ".join(LABELS.values()) + ".\n"
    "Shifted: the infrared lies that many pixels off in x and y, and is scored where it belongs."
)


def section(rows: list[dict[str, Any]]) -> str:
    """Return the section of one network, all sets and shifts."""
    lines = [f"| set | shift | {' | '.join(LABELS)} |", "|---" * (2 + len(LABELS)) + "|"]
    for row in rows:
        figures = " | ".join(f"{row[key]:.3f}" for key in LABELS.values())
        lines.append(f"| {row['set']}, {row['pairs']} pairs | {row['shift']} px | {figures} |")
    table = "\n".join(lines)
    return f"## Scores\n\n{INTRODUCTION}\n\n{table}\n\n"


def main() -> None:
    """Read the command line."""
    rows = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    for name in dict.fromkeys(row["network"] for row in rows):
        card = WEIGHTS / f"{name}.md"
        before, heading, rest = card.read_text("utf-8").partition("## Scores\n")
        if not heading:
            raise SystemExit(f"{card} has no section called Scores")
        following = rest.find("## ")
        text = section([row for row in rows if row["network"] == name])
        new = before + text + (rest[following:] if following >= 0 else "")
        card.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
