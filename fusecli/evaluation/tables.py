"""Tables of scores: one row per method, as text, CSV, Markdown, LaTeX and HTML.

The best value of each metric is marked, and the second best; the last column is the mean of a
method's ranks over all metrics. What a table shows is decided once, in `Board`; the writers below
it only spell it.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Literal

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fusecli.metrics import MetricSpec, Samples
from fusecli.text import visible

Kind = Literal["text", "csv", "md", "latex", "html"]
KINDS: tuple[Kind, ...] = ("text", "csv", "md", "latex", "html")
DIGITS = 4  # significant digits of the largest value of a column

Summary = dict[str, dict[str, dict[str, float | int | None]]]


@dataclass(frozen=True)
class Board:
    """The scores of several methods on the same images.

    Args:
        methods: Names.
        specs: The metrics.
        keys: The images.
        values: (images, methods, metrics), NaN where undefined. Infinite values count as undefined
            in every statistic.
        samples: (method, metric) to what a metric's statistics are over where that is not images.
    """

    methods: tuple[str, ...]
    specs: tuple[MetricSpec, ...]
    keys: tuple[str, ...]
    values: np.ndarray
    samples: Mapping[tuple[int, int], Samples] = field(default_factory=dict)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many images, surfaces or targets each mean is taken over, (methods, metrics)."""
        counts: np.ndarray = np.isfinite(self.values).sum(0)
        for place, samples in self.samples.items():
            counts[place] = len(samples.values)
        return counts

    def _over_all(self, statistic: Literal["mean", "std", "median"]) -> np.ndarray:
        result = np.full(self.counts.shape, np.nan)
        for place in zip(*np.nonzero(self.counts), strict=True):
            if place in self.samples:
                result[place] = self.samples[place].statistic(statistic)
                continue
            column = self.values[(slice(None), *place)]
            result[place] = getattr(np, statistic)(column[np.isfinite(column)])
        return result

    @cached_property
    def centres(self) -> np.ndarray:
        """What tables show and methods are ranked by: means, or medians by a metric's definition.

        (methods, metrics).
        """
        by_median = [spec.centre == "median" for spec in self.specs]
        return np.where(by_median, self.medians, self.means)

    @property
    def basis(self) -> str:
        """What the centres are taken over, in words."""
        pairs = len(self.keys)
        parts = [f"mean over {pairs} pair{'s' if pairs != 1 else ''}"]
        for unit in ("surfaces", "targets"):
            columns = [i for i, spec in enumerate(self.specs) if spec.over == unit]
            if columns:
                parts.append(f"{unit}: over {self.counts[:, columns].max()}")
        return ", ".join(parts)

    @cached_property
    def means(self) -> np.ndarray:
        """(methods, metrics)."""
        return self._over_all("mean")

    @cached_property
    def deviations(self) -> np.ndarray:
        """Standard deviations, divided by the number of values: (methods, metrics)."""
        return self._over_all("std")

    @cached_property
    def medians(self) -> np.ndarray:
        """(methods, metrics)."""
        return self._over_all("median")

    @cached_property
    def ranks(self) -> np.ndarray:
        """The place of each method by its centre, 1 the best; equals share the mean place.

        (methods, metrics), NaN without a centre.
        """
        ranks = np.full(self.centres.shape, np.nan)
        for column, spec in enumerate(self.specs):
            badness = np.array([spec.badness(centre) for centre in self.centres[:, column]])
            for row, own in enumerate(badness):
                if np.isfinite(own):
                    better, equal = (badness < own).sum(), (badness == own).sum()
                    ranks[row, column] = better + (equal + 1) / 2
        return ranks

    @cached_property
    def mean_ranks(self) -> np.ndarray:
        """The mean of each method's ranks, (methods,); NaN for a method without any."""
        ranked = np.isfinite(self.ranks)
        sums, counts = np.where(ranked, self.ranks, 0).sum(1), ranked.sum(1)
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)

    def mark(self, row: int, column: int) -> Literal["best", "second", ""]:
        """Say whether a mean is the best or the second best; nothing is where only one method is.

        Column -1 is the mean rank.
        """
        if len(self.methods) < 2:
            return ""
        spec = None if column < 0 else self.specs[column]
        column_values = self.mean_ranks if spec is None else self.centres[:, column]
        badness = [value if spec is None else spec.badness(value) for value in column_values]
        levels = sorted({value for value in badness if math.isfinite(value)})
        if not math.isfinite(badness[row]) or len(levels) < 2:
            return ""
        place = levels.index(badness[row])
        return "best" if place == 0 else "second" if place == 1 and len(badness) > 2 else ""

    def decimals(self, column: int) -> int:
        """Return the decimal places that show `DIGITS` digits of the largest mean of a metric."""
        centres = self.centres[:, column]
        largest = np.abs(centres[np.isfinite(centres)]).max(initial=0.0)
        if largest == 0:
            return DIGITS - 1
        return int(min(max(DIGITS - 1 - math.floor(math.log10(largest)), 0), 8))

    def cell(self, row: int, column: int) -> str:
        """Return one mean as text; column -1 is the mean rank."""
        value = self.mean_ranks[row] if column < 0 else self.centres[row, column]
        places = 2 if column < 0 else self.decimals(column)
        return f"{value:.{places}f}" if math.isfinite(value) else ""

    @property
    def shown(self) -> list[int]:
        """The metrics' columns, and -1 for the mean rank where methods are compared."""
        return [*range(len(self.specs)), *([-1] if len(self.methods) > 1 else [])]

    def summary(self) -> Summary:
        """Return mean, standard deviation, median and count, ready for JSON: None for NaN."""

        def plain(value: float) -> float | None:
            return float(value) if math.isfinite(value) else None

        return {
            method: {
                spec.key: {
                    "mean": plain(self.means[row, column]),
                    "std": plain(self.deviations[row, column]),
                    "median": plain(self.medians[row, column]),
                    "n": int(self.counts[row, column]),
                }
                for column, spec in enumerate(self.specs)
            }
            for row, method in enumerate(self.methods)
        }


# ---- files of numbers

FORMULA = ("=", "+", "-", "@")  # how one begins, in every common spreadsheet


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    safe = ([_cell(cell) for cell in row] for row in rows)
    csv.writer(text, lineterminator="\n").writerows(safe)
    return text.getvalue()


def _cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula: a name may begin with `=`."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _full(value: float) -> float | str:
    return float(value) if math.isfinite(value) else ""


def rows_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows at full precision below their columns."""
    return _csv([columns, *rows])


def per_image_csv(board: Board) -> str:
    """Return every value at full precision, one row per method and image."""
    rows: list[list[object]] = [["method", "key", *(spec.key for spec in board.specs)]]
    for row, method in enumerate(board.methods):
        for image, key in enumerate(board.keys):
            rows.append([method, key, *map(_full, board.values[image, row])])
    return _csv(rows)


def summary_csv(board: Board) -> str:
    """Return the statistics at full precision, one row per method and metric."""
    rows: list[list[object]] = [["method", "metric", "mean", "std", "median", "count"]]
    for row, method in enumerate(board.methods):
        for column, spec in enumerate(board.specs):
            statistics = (board.means, board.deviations, board.medians)
            values = [_full(statistic[row, column]) for statistic in statistics]
            rows.append([method, spec.key, *values, int(board.counts[row, column])])
    return _csv(rows)


# ---- tables


def write(board: Board, kind: Kind) -> str:
    """Return the table of means as text of one kind."""
    writers = {"text": text, "csv": table_csv, "md": markdown, "latex": latex, "html": html}
    return writers[kind](board)


def table_csv(board: Board) -> str:
    """Return the means at full precision, one row per method."""
    rank = ["mean rank"] if -1 in board.shown else []
    rows: list[list[object]] = [["method", *(spec.key for spec in board.specs), *rank]]
    for row, method in enumerate(board.methods):
        ranks = [_full(board.mean_ranks[row])] if rank else []
        rows.append([method, *map(_full, board.centres[row]), *ranks])
    return _csv(rows)


def markdown(board: Board) -> str:
    """Return a Markdown table: **best**, _second best_."""
    heads = [f"{spec.label} {spec.arrow}<br>`{spec.key}`" for spec in board.specs]
    heads += ["mean<br>rank ↓"] if -1 in board.shown else []
    lines = [["Method", *heads], ["---", *["---:"] * len(heads)]]
    styles = {"best": "**{}**", "second": "_{}_", "": "{}"}
    for row, method in enumerate(board.methods):
        cells = [
            styles[board.mark(row, column)].format(board.cell(row, column))
            for column in board.shown
        ]
        lines.append([_markdown(method), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown(text: str) -> str:
    """Return text that Markdown shows as it is; pages made of it take no tag from it."""
    return re.sub(r"([\\`*_{}\[\]()#|~<>])", r"\\\1", visible(text)).replace("&", "&amp;")


LATEX_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    }
)  # fmt: skip
LATEX_ARROWS = {
    "higher": r"$\uparrow$",
    "lower": r"$\downarrow$",
    "zero": r"$\to 0$",
    "one": r"$\to 1$",
}


def _latex(text: str) -> str:
    # After the end of a row LaTeX would take a bracket or a star for an option of the command.
    return ("{}" if text.startswith(("[", "*")) else "") + visible(text).translate(LATEX_SPECIAL)


def latex(board: Board) -> str:
    r"""Return a LaTeX table for the package booktabs: \textbf{best}, \underline{second best}."""
    heads = [
        f"{spec.label.translate(LATEX_SPECIAL)} {LATEX_ARROWS[spec.direction]}"
        for spec in board.specs
    ]
    keys = [rf"\tiny\ttfamily {spec.key.translate(LATEX_SPECIAL)}" for spec in board.specs]
    if -1 in board.shown:
        heads, keys = [*heads, "mean"], [*keys, r"rank $\downarrow$"]
    lines = [
        rf"% {board.basis}; needs \usepackage{{booktabs}}",
        rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
        r"\toprule",
        f"Method & {' & '.join(heads)} \\\\",
        f" & {' & '.join(keys)} \\\\",
        r"\midrule",
    ]
    styles = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}
    for row, method in enumerate(board.methods):
        cells = [
            styles[board.mark(row, column)].format(board.cell(row, column) or "--")
            for column in board.shown
        ]
        lines.append(f"{_latex(method)} & {' & '.join(cells)} \\\\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def html(board: Board) -> str:
    """Return an HTML table; cells of marked values have the class `best` or `second`."""
    heads = "".join(
        f'<th title="{escape(spec.about)}">{escape(spec.label)}&nbsp;{spec.arrow}'
        f"<br><code>{escape(spec.key).replace(':', ':<wbr>')}</code></th>"
        for spec in board.specs
    )
    heads += '<th class="rank">mean<br>rank&nbsp;↓</th>' if -1 in board.shown else ""
    body = []
    for row, method in enumerate(board.methods):
        cells = "".join(
            f'<td class="{board.mark(row, column)}{" rank" if column < 0 else ""}">'
            f"{board.cell(row, column)}</td>"
            for column in board.shown
        )
        body.append(f"<tr><th>{escape(visible(method))}</th>{cells}</tr>")
    return (
        f'<table class="scores">\n<thead><tr><th>Method</th>{heads}</tr></thead>\n'
        f"<tbody>\n{chr(10).join(body)}\n</tbody>\n</table>\n"
    )


# ---- terminal

STYLES = {"best": "bold green", "second": "underline", "": ""}
SIGNS = {"best": "*", "second": "+", "": " "}


def rich_table(board: Board, width: int) -> Table:
    """Return the table for a terminal: methods as rows, or as columns where that is too wide."""
    upright = _upright(board)
    wide = Console(width=100_000, file=io.StringIO())
    return upright if wide.measure(upright).maximum <= width else _sideways(board)


def _new_table(board: Board) -> Table:
    notes = [board.basis]
    if len(board.methods) > 1:
        notes.append("* best" + (", + second best" if len(board.methods) > 2 else ""))
    return Table(
        box=box.SIMPLE_HEAD, caption="; ".join(notes), caption_justify="left", pad_edge=False
    )


def _mean(board: Board, row: int, column: int) -> Text:
    mark = board.mark(row, column)
    return Text(board.cell(row, column) or "–", STYLES[mark]).append(SIGNS[mark], "not underline")


def _upright(board: Board) -> Table:
    table = _new_table(board)
    table.add_column("method", no_wrap=True)
    for spec in board.specs:
        head = Text(f"{spec.label} {spec.arrow}\n").append(spec.key, "dim")
        table.add_column(head, justify="right", no_wrap=True)
    if -1 in board.shown:
        table.add_column("mean\nrank ↓", justify="right", no_wrap=True)
    for row, method in enumerate(board.methods):
        table.add_row(Text(visible(method)), *(_mean(board, row, column) for column in board.shown))
    return table


def _sideways(board: Board) -> Table:
    table = _new_table(board)
    table.add_column("metric", no_wrap=True)
    for method in board.methods:
        table.add_column(Text(visible(method)), justify="right")
    for column in board.shown:
        name = (
            Text("mean rank ↓")
            if column < 0
            else Text(f"{board.specs[column].key} {board.specs[column].arrow}")
        )
        if column < 0:
            table.add_section()
        table.add_row(name, *(_mean(board, row, column) for row in range(len(board.methods))))
    return table


def text(board: Board, width: int = 120) -> str:
    """Return the table as plain text, for files and pipes."""
    console = Console(width=width, file=io.StringIO(), color_system=None, force_terminal=False)
    console.print(rich_table(board, width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "".join(f"{line.rstrip()}\n" for line in lines)
