"""List every aligned training pair of the data sets, as CSV for `fusecli train --pairs`.

    python training/pairs.py ../shared/data > pairs.csv

Left out are pairs that are known not to line up: the folder `unaligned` and the two pairs that
the sets' manifest doubts. Nothing of a test or development set is listed. Keys hold the set, so
that they are unique and the split into training and validation stays as it is when sets are added.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

SETS = ("roadscene-train", "tno-train", "msrs-train", "extra-train/*", "extra2-train/*")
UNALIGNED = "extra2-train/unaligned"
DOUBTFUL = {"extra-train/m3fd/a2r_138", "extra-train/tno-fusiongan/tno_fg_19"}


def pairs(data: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield (key, infrared file, visible file), sorted by key."""
    folders = [folder for pattern in SETS for folder in sorted(data.glob(f"{pattern}/ir"))]
    for folder in folders:
        name = folder.parent.relative_to(data).as_posix()
        if name == UNALIGNED:
            continue
        visible = {file.stem: file for file in (folder.parent / "vi").iterdir()}
        for file in sorted(folder.iterdir()):
            key = f"{name}/{file.stem}"
            if key not in DOUBTFUL:
                yield key, file, visible[file.stem]


def main() -> None:
    """Print the list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    data = parser.parse_args().data.resolve()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("ir", "vis", "name"))
    for key, ir, vis in pairs(data):
        writer.writerow((ir, vis, key))


if __name__ == "__main__":
    main()
