"""Record terminal and report for the documentation: `python docs/screens.py` writes `docs/images`.

The commands run in a pseudo-terminal, so what is drawn is what a user sees. Of a progress bar,
which is drawn over itself, one frame from the middle of the run is kept. The report of the last
`fusecli eval` is photographed by Chromium, where that is installed.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import cv2
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
COLUMNS = 104
REDRAWN = re.compile(r"\r?\x1b\[2K")  # Rich clears the line before it draws the next frame
NOT_COLOUR = re.compile(r"\r|\x1b\[[?\d;]*[A-Za-ln-z]")  # cursor moves, hiding and showing it
SCREENS = {
    "fuse": (
        "fusecli fuse ir/ vis/ -o out/",
        "fusecli fuse ir/ vis/ -o again/ --model reconnet",
        "fusecli fuse flir/ vis/ -o again/",
    ),
    "eval": (
        "fusecli fuse ir/ vis/ -o clipped/ --limit 6 --quiet",
        "fusecli fuse ir/ vis/ -o stretched/ --limit 6 --quiet --tone stretch",
        "fusecli eval ir/ vis/ clipped/ stretched/ --unpaired skip --progress none",
    ),
}
REPORT = (
    "fusecli eval ir/ vis/ clipped/ stretched/ --unpaired skip -o report/ --plots box,contact,zoom"
    " --roi 120,90,60,45 --quiet"
)
PAGE = (1200, 1500)  # pixels of the report that are shown


def make_pairs(folder: Path) -> None:
    """Write twelve views of the sample pairs, one of them cut short, and a camera's own names."""
    for number in range(12):
        scene = ("day_street", "night_street")[number % 2]
        for side in ("ir", "vis"):
            image = cv2.imread(str(DATA / side / f"{scene}.png"), cv2.IMREAD_UNCHANGED)
            data = cv2.imencode(".png", image[4 * number :, 6 * number :])[1].tobytes()
            if number == 7 and side == "vis":
                data = data[: len(data) // 2]
            (folder / side).mkdir(exist_ok=True)
            (folder / side / f"{number:04d}.png").write_bytes(data)
            (folder / "flir").mkdir(exist_ok=True)
            if side == "ir":
                (folder / "flir" / f"{number:04d}_flir.png").write_bytes(data)


def in_terminal(line: str, folder: Path) -> str:
    """Return everything a command writes to a terminal, control sequences included."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    words = [sys.executable, "-m", *shlex.split(line)]
    variables = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    variables |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        words, cwd=folder, env=variables, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # on Linux the end of a terminal is an error
            break
        if not part:
            break
        written += part
    child.wait()
    os.close(leader)
    return written.decode().replace("\r\n", "\n")


def still(written: str) -> str:
    """Return what a terminal shows, with a bar as it stood in the middle of the run."""
    frames = REDRAWN.split(written)
    bars = [place for place, frame in enumerate(frames) if "━" in frame]
    shown = written
    if bars:
        middle = bars[len(bars) // 2]
        above = [line for frame in frames[:middle] for line in frame.split("\n")[:-1]]
        shown = "\n".join([*above, frames[middle], frames[-1]])
    return NOT_COLOUR.sub("", shown)


def record(name: str, commands: tuple[str, ...], folder: Path) -> None:
    """Write one picture of a terminal."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in commands:
        console.print(Text.assemble(("$ ", "bold green"), (line, "bold")))
        console.print(Text.from_ansi(still(in_terminal(line, folder)).rstrip()), soft_wrap=True)
        console.print()
    svg = console.export_svg(title="fusecli", unique_id=name)
    (ROOT / "docs" / "images" / f"{name}.svg").write_text(svg, "utf-8")


def photograph(page: Path, name: str) -> None:
    """Write the top of a web page as a JPEG."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print(f"no Chromium: {name} stays as it is", file=sys.stderr)
        return
    shot = page.with_suffix(".png")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    size = f"--window-size={PAGE[0]},{PAGE[1]}"
    subprocess.run(
        [browser, *words, size, f"--screenshot={shot}", page.as_uri()],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85]
    data = cv2.imencode(".jpg", cv2.imread(str(shot)), quality)[1]
    (ROOT / "docs" / "images" / name).write_bytes(data.tobytes())


def main() -> None:
    """Write every picture."""
    with tempfile.TemporaryDirectory() as folder:
        make_pairs(Path(folder))
        for name, commands in SCREENS.items():
            record(name, commands, Path(folder))
        in_terminal(REPORT, Path(folder))
        photograph(Path(folder, "report", "report.html"), "report.jpg")


if __name__ == "__main__":
    main()
