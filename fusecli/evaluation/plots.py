"""Figures of scores and pictures, drawn with matplotlib (the extra `report`).

Each function takes a `Board`, or pictures, and returns a figure; `draw` writes them as PNG. Colours
tell methods apart for colour-blind readers too, and a method has one colour in all figures.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fusecli.evaluation.tables import Board
from fusecli.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

KINDS = ("box", "curves", "bars", "radar", "contact", "zoom")
NEEDS_PICTURES = ("contact", "zoom")

# Paul Tol's vibrant and muted schemes, in an order that keeps neighbours apart
COLOURS = (
    "#0077bb", "#ee7733", "#009988", "#cc3311", "#aa4499", "#999933", "#332288", "#ee3377",
    "#117733", "#88ccee", "#882255", "#ddcc77",
)  # fmt: skip
INK, FAINT, PAPER = "#1c2330", "#8a93a3", "#ffffff"
DPI = 160
STYLE: Any = {  # matplotlib's own type for this is a union of 300 names
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": "#c5cbd5", "axes.linewidth": 0.8, "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlecolor": INK, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": "#e6e9ef", "grid.linewidth": 0.7, "xtick.color": INK,
    "ytick.color": INK, "xtick.labelsize": 8, "ytick.labelsize": 8, "xtick.major.size": 0,
    "ytick.major.size": 0, "legend.frameon": False, "legend.fontsize": 9,
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER,
}  # fmt: skip

Region = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


class Shot(NamedTuple):
    """One pair and what became of it, for contact sheets.

    Args:
        key: Of the pair.
        titles: `infrared`, `visible`, then the methods.
        pictures: (H, W) or (H, W, 3) uint8, one per title.
    """

    key: str
    titles: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]


def draw(kind: str, board: Board, shots: Sequence[Shot], region: Region | None) -> bytes:
    """Return one kind of figure as the bytes of a PNG file.

    Args:
        kind: One of `KINDS`.
        board: The scores.
        shots: The pictures that `contact` and `zoom` show.
        region: What they magnify.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        if kind in NEEDS_PICTURES:
            figure = contact(shots, region) if kind == "contact" else zoom(shots, region)
        else:
            figure = {"box": boxes, "curves": curves, "bars": bars, "radar": radar}[kind](board)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI)
        return png.getvalue()


def colour(method: int) -> str:
    """Return the colour of a method by its place."""
    return COLOURS[method % len(COLOURS)]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(board: Board, height: float) -> tuple[Figure, list[tuple[Axes, int]]]:
    """Return a figure, and a titled panel for each metric that has values, with its column."""
    shown = [i for i in range(len(board.specs)) if np.isfinite(board.values[:, :, i]).any()]
    count = max(1, len(shown))
    # of three to five columns the number that leaves the fewest places empty
    columns = min((4, 5, 3), key=lambda n: -count % n) if count > 5 else count
    rows = math.ceil(count / columns)
    figure = _figure(3.0 * columns + 0.4, height * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    for axes, column in zip(grid, shown, strict=False):
        spec = board.specs[column]
        axes.set_title(f"{spec.label} {spec.arrow}  ", loc="left")
        axes.set_title(spec.key, loc="right", fontsize=7, color=FAINT, family="monospace",
                       fontweight="normal")  # fmt: skip
    return figure, list(zip(grid, shown, strict=False))


def boxes(board: Board) -> Figure:
    """Draw the spread of each metric over the images: quartiles, whiskers, every image a dot."""
    figure, panels = _panels(board, 0.9 + 0.27 * len(board.methods))
    scatter = np.random.default_rng(0).uniform(-0.16, 0.16, len(board.keys))
    for axes, column in panels:
        for row in range(len(board.methods)):
            values = board.values[:, row, column]
            finite = np.isfinite(values)
            if not finite.any():
                continue
            axes.boxplot(
                values[finite], positions=[row], orientation="horizontal", widths=0.56,
                showfliers=len(board.keys) > 60, patch_artist=True,
                boxprops={"facecolor": colour(row) + "38", "edgecolor": colour(row)},
                medianprops={"color": colour(row), "linewidth": 2},
                whiskerprops={"color": colour(row)}, capprops={"color": colour(row)},
                flierprops={"marker": ".", "markeredgecolor": colour(row), "markersize": 3},
            )  # fmt: skip
            if len(board.keys) <= 60:
                axes.scatter(values[finite], row + scatter[finite], s=7, color=colour(row),
                             alpha=0.7, linewidths=0, zorder=3)  # fmt: skip
        axes.set_yticks(range(len(board.methods)), list(map(visible, board.methods)))
        axes.set_ylim(len(board.methods) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
    return figure


def curves(board: Board) -> Figure:
    """Draw for each metric which share of the images has at most a value."""
    figure, panels = _panels(board, 2.2)
    for axes, column in panels:
        for row, method in enumerate(board.methods):
            values = board.values[:, row, column]
            values = np.sort(values[np.isfinite(values)])
            if values.size:
                share = 100 * np.arange(1, values.size + 1) / values.size
                axes.step(
                    np.concatenate((values[:1], values)), np.concatenate(([0], share)),
                    where="post", color=colour(row), linewidth=1.6, label=_label(method),
                )  # fmt: skip
        axes.set_ylim(0, 102)
        axes.yaxis.set_major_formatter("{x:.0f} %")
    _legend(figure, board)
    return figure


def _legend(figure: Figure, board: Board) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour(row), linewidth=3, label=_label(method))
        for row, method in enumerate(board.methods)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))


def _label(method: str) -> str:
    """Return what a legend shows: matplotlib leaves names out that begin with `_`."""
    return visible(f" {method}" if method.startswith("_") else method)


def bars(board: Board) -> Figure:
    """Draw the mean rank of each method, the best at the top, and its rank in every metric."""
    order = np.argsort(board.mean_ranks, kind="stable")
    count, metrics = len(board.methods), len(board.specs)
    figure = _figure(4.6 + 0.52 * metrics, 1.5 + 0.36 * count)
    left, right = figure.subplots(1, 2, width_ratios=(3.2, 0.5 * metrics + 0.4), sharey=True)
    for place, row in enumerate(order):
        rank = board.mean_ranks[row]
        if not np.isfinite(rank):
            continue
        left.barh(place, rank, height=0.62, color=colour(row))
        left.text(rank + 0.04 * count, place, f"{rank:.2f}", va="center", fontsize=9)
    left.set_yticks(range(count), [visible(board.methods[row]) for row in order])
    left.set_ylim(count - 0.4, -0.6)
    left.set_xlim(0, count * 1.18)
    left.grid(axis="y", visible=False)
    left.set_title("mean rank (1 is best)")
    ranks = board.ranks[order]
    right.imshow(ranks, cmap=_shades(), vmin=1, vmax=max(2, count), aspect="auto")
    for (place, column), rank in np.ndenumerate(ranks):
        if np.isfinite(rank):
            dark = rank <= 1 + 0.35 * (count - 1)
            right.text(column, place, f"{rank:g}", ha="center", va="center", fontsize=8,
                       color=PAPER if dark else INK)  # fmt: skip
    right.set_xticks(range(metrics), [spec.key for spec in board.specs], rotation=45, ha="right",
                     rotation_mode="anchor", family="monospace", fontsize=7)  # fmt: skip
    right.grid(visible=False)
    right.tick_params(labelleft=False)
    right.spines[:].set_visible(False)
    right.set_title("rank in each metric")
    return figure


def _shades() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ranks", ["#0b4f7d", "#5ea3cf", "#dbe8f2", "#f6f8fa"])


def radar(board: Board) -> Figure:
    """Draw each method's means around a circle: the best method's on the rim, the worst at 15 %."""
    usable = [i for i in range(len(board.specs)) if np.isfinite(board.centres[:, i]).all()]
    figure = _figure(6.4, 6.6)
    axes: Any = figure.add_subplot(projection="polar")
    angles = 2 * np.pi * np.arange(len(usable)) / max(1, len(usable))
    goodness = -np.array(
        [[board.specs[i].badness(board.centres[row, i]) for i in usable]
         for row in range(len(board.methods))]
    )  # fmt: skip
    low, span = goodness.min(0), np.ptp(goodness, axis=0)
    radii = 0.15 + 0.85 * np.divide(
        goodness - low, span, out=np.ones_like(goodness), where=span > 0
    )
    for row in range(len(board.methods)):
        closed = np.append(radii[row], radii[row, :1])
        turns = np.append(angles, angles[:1])
        axes.plot(turns, closed, color=colour(row), linewidth=1.8)
        axes.fill(turns, closed, color=colour(row), alpha=0.08)
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_xticks(angles, [f"{board.specs[i].label} {board.specs[i].arrow}" for i in usable])
    axes.tick_params(axis="x", pad=10)
    axes.set_yticks([0.15, 0.575, 1.0], ["", "", ""])
    axes.set_ylim(0, 1.04)
    axes.spines["polar"].set_visible(False)
    _legend(figure, board)
    return figure


# ---- pictures


def _show(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _frame(axes: Axes, region: Region) -> None:
    from matplotlib.patches import Rectangle

    left, top, width, height = region
    corner = (left - 0.5, top - 0.5)
    axes.add_patch(Rectangle(corner, width, height, fill=False, color="#ffd400", linewidth=1.2))


def contact(shots: Sequence[Shot], region: Region | None) -> Figure:
    """Draw pairs as rows: infrared, visible and every method; a region is framed and magnified."""
    columns = len(shots[0].titles)
    aspect = [shot.pictures[0].shape[0] / shot.pictures[0].shape[1] for shot in shots]
    closer = region[3] / region[2] if region else 0.0
    cell = min(2.6, 16 / columns)
    heights = [part for ratio in aspect for part in ((ratio, closer) if region else (ratio,))]
    figure = _figure(cell * columns + 0.3, cell * sum(heights) + 0.12 * len(heights) + 0.4)
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    step = 2 if region else 1
    for row, shot in enumerate(shots):
        for column, (title, picture) in enumerate(zip(shot.titles, shot.pictures, strict=True)):
            axes = grid[step * row, column]
            _show(axes, picture)
            if row == 0:
                axes.set_title(visible(title), loc="center")
            if region:
                _frame(axes, region)
                _show(grid[step * row + 1, column], crop(picture, region))
        grid[step * row, 0].set_ylabel(visible(shot.key), fontsize=8, color=FAINT)
    return figure


def zoom(shots: Sequence[Shot], region: Region | None) -> Figure:
    """Draw the magnified region of every image, the larger the fewer there are."""
    if region is None:
        raise ValueError("zoom needs a region")
    columns = len(shots[0].titles)
    cell = min(3.4, 17 / columns)
    ratio = region[3] / region[2]
    figure = _figure(cell * columns + 0.3, (cell * ratio + 0.12) * len(shots) + 0.4)
    grid = figure.subplots(len(shots), columns, squeeze=False)
    for row, shot in enumerate(shots):
        for column, (title, picture) in enumerate(zip(shot.titles, shot.pictures, strict=True)):
            _show(grid[row, column], crop(picture, region))
            if row == 0:
                grid[row, column].set_title(visible(title), loc="center")
        grid[row, 0].set_ylabel(visible(shot.key), fontsize=8, color=FAINT)
    return figure


def crop(picture: np.ndarray, region: Region) -> np.ndarray:
    """Return the part of a picture that lies in a region; black where the picture ends."""
    left, top, width, height = region
    part = np.zeros((height, width, *picture.shape[2:]), picture.dtype)
    inside = picture[top : top + height, left : left + width]
    part[: inside.shape[0], : inside.shape[1]] = inside
    return part
