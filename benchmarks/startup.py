"""Measure what help costs: CPU seconds of fresh processes, median of several.

    python benchmarks/startup.py [--repeat 9]

`import torch` alone is measured beside it, as what a careless import would add.
"""

import argparse
import os
import statistics
import subprocess
import sys

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "fusecli --version": ["-m", "fusecli", "--version"],
    "fusecli --help": ["-m", "fusecli", "--help"],
    "fusecli fuse --help": ["-m", "fusecli", "fuse", "--help"],
    "fusecli train --help": ["-m", "fusecli", "train", "--help"],
    "python -c 'import torch'": ["-c", "import torch"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """Return user and system time of one process."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{arguments} failed")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    print("| command | CPU s, median |\n|---|---|")
    for name, arguments in COMMANDS.items():
        spent = statistics.median(cpu_seconds(arguments) for _ in range(repeat))
        print(f"| `{name}` | {spent:.2f} |")


if __name__ == "__main__":
    main()
