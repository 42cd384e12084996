"""Compare the tables of `benchmarks/RESULTS.md` with what speed was to reach.

    python -m benchmarks.reach

Only what a table there holds is called measured. The best ratio of a network counts where it was
run several ways, in bf16 only if that keeps the limits of `--precision auto`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.timing import table
from fusecli import models

PAGE = Path(__file__).with_name("RESULTS.md")
FP32 = {"mfeif": 4.0, "rfn-nest": 4.0, "rfvif": 3.0, "smfnet": 3.0, "reconet": 4.0}
FASTEST = {"mfeif": 8.0, "rfn-nest": 8.0, "rfvif": 5.0, "smfnet": 5.0, "reconet": 5.0}
FLAT = 1 / 1.1  # of what memory may grow to
ON_A_GPU = {
    "ReCoNet 640x480, batch 16, against eager fp32": "8",
    "RFVIF's local similarity, dynamic depthwise, against eager": "15, 5",
    "RFN-Nest, MFEIF, SMFNet in bf16, against eager fp32": "4",
    "folder run against the slowest of decode, network, encode": "1.2 times its time",
}


def recorded(heading: str) -> list[dict[str, str]]:
    """Return the rows of all tables in the section whose heading holds some words."""
    _, _, rest = PAGE.read_text("utf-8").partition(heading)
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", rest.split("\n## ")[0], re.MULTILINE):
        lines = [line.strip("|").split("|") for line in block.splitlines()]
        header, _, *body = ([cell.strip() for cell in line] for line in lines)
        found += [dict(zip(header, row, strict=True)) for row in body]
    return found


def networks() -> Iterator[dict[str, object]]:
    """Yield a row for each network and goal on a CPU."""
    measured = recorded("benchmarks.networks")
    for name, goal in FP32.items():
        yield compared(f"{name}, fp32", goal, ratios(measured, name, ("fp32",)))
    for name, goal in FASTEST.items():
        safe = models.find(name).safe_in_bf16
        allowed = ("fp32", "bf16") if safe else ("fp32",)
        row = compared(f"{name}, fastest safe", goal, ratios(measured, name, allowed))
        asked = ratios(measured, name, ("bf16",))
        if asked and not safe:
            row["remark"] = f"with --precision bf16, beyond the limits, {max(asked):.2f}"
        yield row


def ratios(rows: list[dict[str, str]], name: str, precisions: tuple[str, ...]) -> list[float]:
    """Return the ratios measured for a network in one of some precisions."""
    return [
        float(row["ratio"])
        for row in rows
        if row["network"] == name and row["precision"] in precisions
    ]


def compared(what: str, goal: float, found: list[float]) -> dict[str, object]:
    """Return one row of the table."""
    best = max(found, default=None)
    verdict = "not measured" if best is None else "reached" if best >= goal else "missed"
    return {
        "what": what,
        "reach": f"{goal:g}",
        "measured": "" if best is None else f"{best:.2f}",
        "verdict": verdict,
        "remark": "",
    }


def reach() -> list[dict[str, object]]:
    """Return one row for each goal."""
    rows = list(networks())
    folders = recorded("benchmarks/fuse_folder.py")
    runs = [float(row["ratio"]) for row in folders if row["model"] == "mfeif"]
    rows.append(compared("mfeif, whole run of `fuse`", 5.0, runs))
    peaks = [float(r["peak MiB"]) for r in recorded("benchmarks.scaling") if r["grows"] == "folder"]
    if peaks:
        growth = peaks[-1] / peaks[0]
        row = compared("memory of a folder 25 times as long", FLAT, [1 / growth])
        rows.append(row | {"reach": f"at most {1 / FLAT:.2f}", "measured": f"{growth:.2f}"})
    for what, goal in ON_A_GPU.items():
        rows.append(
            {"what": f"GPU: {what}", "reach": goal, "measured": "", "verdict": "not measured",
             "remark": "no GPU could be had"}
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    print(table(reach()))
