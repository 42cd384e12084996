"""Put fused folders beside their sources on one contact sheet, a row for each scene.

    python training/sheet.py ../shared/data sheet.jpg out/duet out/reconet --scenes tno-test/tno_04

Every folder holds `SET/KEY.png`, as `fusecli fuse DATA/SET/ir DATA/SET/vi -o FOLDER/SET` writes it.
Without `--scenes` the rows are the twenty scenes by which the designs of `duet` were judged.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from fusecli import images

SIZE = (320, 240)  # of each picture, whatever its own shape
# lamps and lit windows at night, people, smoke, glare, and ordinary streets and fields
SCENES = (
    *(f"tno-test/tno_{n}" for n in ("01", "03", "04", "06", "10", "14", "18", "20", "22", "25")),
    *(f"roadscene-test/FLIR_{n}" for n in ("00211", "04484", "05005", "05893", "06430", "06795")),
    *(f"roadscene-test/FLIR_{n}" for n in ("06995", "07206", "08094", "08721")),
)


def picture(folder: Path, key: str) -> np.ndarray:
    """Return the luma of the one file of that name, (240, 320) uint8.

    Raises:
        SystemExit: No file of that name.
    """
    found = sorted(folder.glob(f"{key}.*"))
    if not found:
        raise SystemExit(f"no picture {folder / key}.*")
    pixels = images.read(str(found[0])).pixels
    luma = images.to_unit(images.luma(pixels), images.limits(pixels, "auto"))
    shown = cv2.resize(np.rint(255 * luma).astype(np.uint8), SIZE, interpolation=cv2.INTER_AREA)
    return np.asarray(shown)


def sheet(data: Path, methods: list[Path], scenes: list[str]) -> np.ndarray:
    """Return infrared, visible and each method's picture of every scene, (H, W) uint8."""
    rows = []
    for scene in scenes:
        name, key = scene.split("/", 1)
        folders = [data / name / "ir", data / name / "vi", *(method / name for method in methods)]
        rows.append(np.hstack([picture(folder, key) for folder in folders]))
    return np.vstack(rows)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("out", type=Path, help="the picture to write")
    parser.add_argument("methods", type=Path, nargs="+", help="folders of fused images")
    parser.add_argument("--scenes", nargs="+", default=SCENES, metavar="SET/KEY")
    arguments = parser.parse_args()
    pixels = sheet(arguments.data, arguments.methods, list(arguments.scenes))
    if not cv2.imwrite(str(arguments.out), pixels):
        raise SystemExit(f"cannot write {arguments.out}")


if __name__ == "__main__":
    main()
