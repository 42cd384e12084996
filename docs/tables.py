"""Write the tables of `docs/metrics.md` from the code: `python docs/tables.py`."""

import re
from pathlib import Path

from fusecli import metrics

PAGE = Path(__file__).with_name("metrics.md")
TABLE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def every_metric() -> str:
    """Return one row per metric, by name; the convention that a bare name means comes first."""
    specs = sorted(map(metrics.find, metrics.keys()), key=lambda s: (s.name, not s.plain))
    names = [spec.name for spec in specs]
    rows = ["| key | paper's name | what it is | where from |", "|---|---|---|---|"]
    for spec in specs:
        key = f"**`{spec.key}`**" if spec.plain or names.count(spec.name) == 1 else f"`{spec.key}`"
        rows.append(f"| {key} | {spec.label} {spec.arrow} | {spec.about} | {spec.source} |")
    return "\n".join(rows) + "\n"


def every_group() -> str:
    """Return one row per group."""
    rows = ["| group | metrics |", "|---|---|"]
    rows += [f"| `{name}` | {', '.join(keys)} |" for name, keys in metrics.GROUPS.items()]
    return "\n".join(rows) + "\n"


def filled(text: str) -> str:
    """Return the page with its tables as the code has them."""
    tables = {"metrics": every_metric, "groups": every_group}
    return TABLE.sub(lambda found: found[1] + tables[found[2]]() + found[3], text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
