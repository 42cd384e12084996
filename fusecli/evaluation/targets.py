"""Labelled targets one by one: a table, and the ten that a method shows worst as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import cv2
import numpy as np

from fusecli.evaluation.plots import Shot
from fusecli.evaluation.scoring import Scores
from fusecli.metrics.targets import Box
from fusecli.text import visible

WORST = 10
SIDE = 240  # pixels of an enlarged target
YELLOW = (255, 212, 0)


class Row(NamedTuple):
    """One target as one method shows it; the fields are the columns of targets.csv.

    Args:
        method: Name.
        key: Of the pair.
        kind: Class.
        x: Left of the box, pixels.
        y: Top of the box.
        w: Width.
        h: Height.
        contrast_ir: Contrast in the infrared image, with its sign.
        kept: What the method keeps of it; negative where light and dark are swapped.
        auc: Separability.
    """

    method: str
    key: str
    kind: str
    x: int
    y: int
    w: int
    h: int
    contrast_ir: float
    kept: float
    auc: float

    def as_dict(self) -> dict[str, Any]:
        """Return the row by column."""
        return dict(zip(COLUMNS, self, strict=True))


COLUMNS = tuple("class" if name == "kind" else name for name in Row._fields)


def rows(scores: Scores) -> list[Row]:
    """Return every target of every method, methods in order, then images."""
    return [
        Row(
            method,
            key,
            *seen.target.box[4:5],
            *seen.target.box[:4],
            seen.target.contrast,
            *seen[1:],
        )
        for place, method in enumerate(scores.methods)
        for key in scores.keys
        if key in scores.targets and scores.targets[key]
        for seen in scores.targets[key][place]
    ]


def html(every: Sequence[Row], limit: int) -> str:
    """Return a folded table of the first rows that can be sorted."""
    heads = "".join(f"<th>{name}</th>" for name in COLUMNS)
    body = []
    for row in every[:limit]:
        names = "".join(f"<th>{escape(visible(text))}</th>" for text in row[:3])
        sides = "".join(f"<td>{side}</td>" for side in row[3:7])
        values = "".join(f"<td>{value:.3f}</td>" for value in row[7:])
        body.append(f"<tr>{names}{sides}{values}</tr>")
    more = f"The first {limit} of {len(every)} rows; " if len(every) > limit else ""
    return (
        f"<details><summary>{len(every)} rows; select a heading to sort</summary>"
        f'<p class="note">{more}targets.csv has all. kept is the contrast over that of the '
        f"infrared, negative where light and dark are swapped.</p>"
        f'<div class="wide"><table class="sortable"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div></details>\n"
    )


def worst(scores: Scores, count: int = WORST) -> list[tuple[str, Box, tuple[float, ...]]]:
    """Return the targets of which any method keeps least, with what each method keeps."""
    every = [
        (key, shown[0].target.box, tuple(seen.kept for seen in shown))
        for key in scores.keys
        if key in scores.targets
        for shown in zip(*scores.targets[key], strict=True)
    ]
    return sorted(every, key=lambda target: min(target[2]))[:count]


def sheet(
    shots: Sequence[Shot], chosen: Sequence[tuple[str, Box, tuple[float, ...]]]
) -> list[Shot]:
    """Return each chosen target enlarged, with its box, in both sources and every method.

    Args:
        shots: Whole pictures of the images that hold them.
        chosen: From `worst`.
    """
    whole = {shot.key: shot for shot in shots}
    enlarged = []
    for key, box, kept in chosen:
        shot = whole[key]
        notes = ("", "", *(f" keeps {value:.2f}" for value in kept))
        enlarged.append(
            Shot(
                f"{key} · {box.kind} at {box.left}, {box.top}",
                tuple(title + note for title, note in zip(shot.titles, notes, strict=True)),
                tuple(_enlarged(picture, box) for picture in shot.pictures),
            )
        )
    return enlarged


def _enlarged(picture: np.ndarray, box: Box) -> np.ndarray:
    """Return the box and as much again around it, (h, w, 3) uint8, framed."""
    around = max(8, max(box.width, box.height) // 2)
    rows, columns = box.grown(around, (picture.shape[0], picture.shape[1]))
    cut = picture[rows, columns]
    colour = cut if cut.ndim == 3 else np.repeat(cut[..., None], 3, axis=2)
    zoom = max(1, round(SIDE / max(colour.shape[:2])))
    large = cv2.resize(colour, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    left, top = (box.left - columns.start) * zoom - 1, (box.top - rows.start) * zoom - 1
    corner = (left + box.width * zoom + 1, top + box.height * zoom + 1)
    framed: np.ndarray = cv2.rectangle(large, (left, top), corner, YELLOW, 1)
    return framed
