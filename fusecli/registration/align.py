"""One image onto the grid of another: estimated, or by a stored transform."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch

from fusecli import images
from fusecli.errors import InputError
from fusecli.fields import Matrix, field_matrix, inside
from fusecli.images import Picture
from fusecli.outcome import Outcome, RunReport
from fusecli.registration import Resampling, judge
from fusecli.registration.candidates import centred
from fusecli.registration.estimate import Attempt, Estimate, estimate
from fusecli.registration.features import rescale
from fusecli.registration.learned import LearnedRegister
from fusecli.registration.move import move, soft_edge
from fusecli.registration.transform import Transform, check_sizes, load

REMEDIES = (
    "fusecli register takes --fov-ratio R or --init FILE where the views differ, a simpler"
    " --transform such as similarity, and --fixed ir;"
    " --on-reject identity passes refused pairs on as they are"
)

_FADE = 0.06  # how far brightness goes on where data ends, as a share of the shorter side


@dataclass(frozen=True)
class Alignment:
    """How the transform of a pair is found.

    Args:
        method: One of `registration.METHODS`.
        transform: One of `registration.TRANSFORMS`.
        start: Transform to begin from; its matrix, for the size of the images at hand. Or the
            matrix itself, fixed to moving.
        view: How many times wider the fixed camera sees than the moving one; a start as well.
        max_side: Longer side of the working images.
        min_gain: Rise of the agreement below which a result is refused.
        stored: A transform file, or a folder of them by key: nothing is estimated then.
        rig: The one transform of a fixed rig, already estimated.
        on_reject: `identity` passes a refused pair on as it is, `fail` makes it a failure.
        learned: The register of the method `reconet`; with `auto` it is one more try.
    """

    method: str = "auto"
    transform: str = "auto"
    start: Transform | Matrix | None = None
    max_side: int = 1024
    min_gain: float = 0.0
    stored: Path | None = None
    rig: Transform | None = None
    on_reject: Literal["fail", "identity"] = "fail"
    learned: LearnedRegister | None = None
    view: float | None = None

    def of(self, key: str, fixed: np.ndarray, moving: np.ndarray) -> Transform:
        """Return the transform of one pair.

        Args:
            key: Of the pair.
            fixed: Luma, (H, W), finite.
            moving: Luma, (H', W'), finite.

        Raises:
            InputError: `register.rejected` with `on_reject="fail"`; a stored transform that is
                missing, damaged, or made for other sizes.
        """
        if self.stored is not None:
            return self._stored(key, fixed.shape, moving.shape)
        if self.rig is not None:
            check_sizes(self.rig, fixed.shape, moving.shape)
            return self._checked(_renamed(self.rig, key), "the camera rig could not be registered")
        found = self.estimate(fixed, moving, self.transform)
        why = "; tried ".join(filter(None, (found.refusal, ", ".join(map(str, found.attempts)))))
        return self._checked(as_transform(found, key, fixed.shape, moving.shape), why)

    def estimate(self, fixed: np.ndarray, moving: np.ndarray, transform: str) -> Estimate:
        """Return what the method finds for one pair, accepted or not.

        Args:
            fixed: As in `of`.
            moving: As in `of`.
            transform: One of `registration.TRANSFORMS`.
        """
        return estimate(
            fixed.astype(np.float32, copy=False),
            moving.astype(np.float32, copy=False),
            method=self.method,
            transform=transform,
            start=self._start_for(fixed.shape, moving.shape),
            max_side=self.max_side,
            min_gain=self.min_gain,
            learned=self.learned,
        )

    def _start_for(self, fixed: Sequence[int], moving: Sequence[int]) -> Matrix | None:
        """Return the matrix to begin from, for images of these sizes; None to begin anywhere."""
        if self.view is not None:
            return centred(self.view * moving[1] / fixed[1], fixed, moving)
        if self.start is None:
            return None
        if not isinstance(self.start, Transform):
            return self.start
        matrix = self.start.matrix
        if matrix is None:
            matrix = field_matrix(self.start.displacement())
        return rescale(matrix, (self.start.fixed_size, fixed), (self.start.moving_size, moving))

    def settings(self) -> dict[str, Any]:
        """Return everything that changes transforms, for the fingerprint of a run."""
        plain = {
            name: value
            for name, value in vars(self).items()
            if name not in ("stored", "rig", "start", "learned")
        }
        return plain | {
            "init": self.start.document(None)
            if isinstance(self.start, Transform)
            else self.start
            if self.start is None
            else self.start.tolist(),
            "apply": self._digest(),
            "rig": self.rig and self.rig.document(None),
            "register": self.learned and self.learned.sha256,
        }

    def _digest(self) -> str:
        """Return a hash of the stored transforms; empty without."""
        if self.stored is None:
            return ""
        files = [self.stored]
        if self.stored.is_dir():
            files = sorted(p for p in self.stored.rglob("*") if p.suffix in (".json", ".npz"))
        total = hashlib.sha256()
        for file in files:
            total.update(
                os.fsencode(file.name) + b"\0" + hashlib.sha256(file.read_bytes()).digest()
            )
        return total.hexdigest()

    def _stored(self, key: str, fixed: Sequence[int], moving: Sequence[int]) -> Transform:
        assert self.stored is not None
        path = self.stored / f"{key}.json" if self.stored.is_dir() else self.stored
        transform = load(path)
        check_sizes(transform, fixed, moving)
        if not inside(transform.displacement(), moving).any():
            raise InputError(
                f"the transform {path} points nowhere into the moving image",
                code="register.overlap",
                hint="estimate it again: fusecli register IR VIS -o OUT",
            )
        return _renamed(transform, key)

    def _checked(self, transform: Transform, refusal: str) -> Transform:
        if transform.accepted or self.on_reject == "identity":
            return transform
        raise InputError(
            f"'{transform.key}' was not registered: {refusal}",
            code="register.rejected",
            hint=REMEDIES,
            details={"score": transform.score},
        )


@dataclass
class AlignedReport(RunReport):
    """A run's report that also says how far images moved, and which were refused."""

    displacements: list[float] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        super().add(outcome)
        if outcome.record.get("accepted"):
            self.displacements.append(outcome.record["displacement_px"])
        elif "accepted" in outcome.record:
            self.rejected.append(outcome.key)

    def as_dict(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        moved = {"mean_displacement_px": self._mean(), "rejected": sorted(self.rejected)}
        return super().as_dict() | {"register": moved}

    def lines(self) -> list[str]:
        """Return the closing lines."""
        mean = self._mean()
        moved = [] if mean is None else [f"moved by {mean:.1f} px on average"]
        return moved + super().lines()

    def _mean(self) -> float | None:
        return round(float(np.mean(self.displacements)), 3) if self.displacements else None


def note_transform(transform: Transform, outcome: Outcome) -> None:
    """Put into the outcome of a pair what `AlignedReport` says of it."""
    outcome.record |= {
        "transform": transform.kind,
        "accepted": transform.accepted,
        "displacement_px": round(transform.mean_displacement(), 3),
    }
    tried = (transform.score or {}).get("tried", [])
    if tried:
        outcome.record["tried"] = tried
        outcome.decisions.append(
            f"{transform.key}: {', '.join(str(Attempt(**attempt)) for attempt in tried)}"
        )
    if not transform.accepted:
        outcome.notes["register.rejected"] = (
            f"'{outcome.key}' was not registered and is passed on as it is"
        )


def luma_of(picture: Picture) -> np.ndarray:
    """Return the luma of a picture in 0..1, (H, W) float32, also of false colours."""
    limits = images.limits(picture.pixels, "auto", picture.invalid)
    return images.luma(images.to_unit(picture.pixels, limits, picture.invalid))


class Aligned(NamedTuple):
    """A moving image on the fixed grid.

    Args:
        moved: (H, W) or (H, W, C) float32 in 0..1. Where the moving image has no data its border
            goes on, so that a network sees no edge there.
        weight: (H, W) float32, 1 where it has data, falling smoothly to 0 before data ends.
    """

    moved: np.ndarray
    weight: np.ndarray


def align(moving: np.ndarray, transform: Transform) -> Aligned:
    """Return an image moved onto the fixed grid of a transform, ready to be fused.

    Args:
        moving: (H, W) or (H, W, C) float32 in 0..1.
        transform: From `Alignment.of`.
    """
    if untouched(transform):
        return Aligned(moving, np.ones(moving.shape[:2], np.float32))
    displacement = transform.displacement()
    moved = move(moving, displacement, Resampling("linear", "replicate"))
    covered = inside(displacement, moving.shape[:2])[0, 0].numpy()
    width = max(4.0, 0.03 * min(covered.shape))
    return Aligned(moved, soft_edge(covered, width))


def pass_into(fused: np.ndarray, fixed: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the fused image where the moved one has data, passing smoothly to the fixed one.

    A network also changes the overall brightness. Where data ends, that change goes on into the
    fixed image and fades, so that no step of brightness shows where the outline of the data was.

    Args:
        fused: (H, W) or (H, W, C).
        fixed: (H, W), for all channels alike, or the shape of `fused`; on the same scale.
        weight: (H, W), of `Aligned`.
    """
    if weight.min() == 1:
        return fused
    sigma = _FADE * min(weight.shape)
    nearby = cv2.GaussianBlur(weight, (0, 0), sigma)
    if fused.ndim == 3:
        weight, nearby = weight[..., None], nearby[..., None]
        fixed = fixed[..., None] if fixed.ndim == 2 else fixed
    change = (fused - fixed).astype(np.float32)
    tone = cv2.GaussianBlur(weight * change, (0, 0), sigma).reshape(change.shape)
    tone = tone / (nearby + 0.02)
    return np.asarray(fixed + weight * change + (1 - weight) * tone, np.float32)


def as_transform(
    found: Estimate, key: str, fixed: Sequence[int], moving: Sequence[int]
) -> Transform:
    """Return an estimate in the form that is written to files."""
    matrix = found.matrix
    if found.field is not None:  # the file holds the best affine approximation beside a field
        matrix = field_matrix(torch.from_numpy(found.field).permute(2, 0, 1)[None])
    return Transform(
        key=key,
        kind=found.shape,
        matrix=matrix,
        fixed_size=(fixed[0], fixed[1]),
        moving_size=(moving[0], moving[1]),
        field=found.field,
        accepted=found.accepted,
        method=found.method,
        score={
            "name": judge.NAME,
            "before": round(found.before, 6),
            "after": round(found.after, 6),
            "confidence": round(found.confidence, 3),
            "tried": [attempt._asdict() for attempt in found.attempts],
        },
    )


def untouched(transform: Transform) -> bool:
    """Return whether a transform leaves every pixel where it is."""
    if transform.field is not None or transform.fixed_size != transform.moving_size:
        return False
    return transform.matrix is not None and bool(np.array_equal(transform.matrix, np.eye(3)))


def _renamed(transform: Transform, key: str) -> Transform:
    return replace(transform, key=key)
