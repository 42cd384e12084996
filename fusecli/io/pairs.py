from dataclasses import dataclass
from pathlib import Path
import csv


@dataclass(frozen=True, slots=True)
class Pair:
    key: str
    ir: str
    vis: str


@dataclass(frozen=True)
class PairedFolder:
    pairs: tuple
    unmatched_ir: tuple = ()
    unmatched_vis: tuple = ()
    ignored: int = 0


def find_pairs(ir, vis, **kw):
    a = {p.stem: p for p in Path(ir).iterdir()}
    b = {p.stem: p for p in Path(vis).iterdir()}
    return PairedFolder(tuple(Pair(k, str(a[k]), str(b[k])) for k in sorted(a.keys() & b.keys())))


def read_pair_list(file):
    with open(file, newline="") as f:
        for row in csv.DictReader(f):
            yield Pair(row["name"], row["ir"], row["vis"])
