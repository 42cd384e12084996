"""One pair from two files to a moved image and its transform: the work of `fusecli register`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fusecli import images, pictures
from fusecli.errors import InputError
from fusecli.images import Picture, tiff
from fusecli.options import Side
from fusecli.outcome import Outcome, Stopwatch
from fusecli.registration import Choices, Resampling
from fusecli.registration.align import (
    REMEDIES,
    Alignment,
    as_transform,
    luma_of,
    note_transform,
)
from fusecli.registration.move import metadata_of
from fusecli.registration.pair import RegisteredPair, register_pictures
from fusecli.registration.rig import Rig
from fusecli.registration.transform import Transform
from fusecli.run.outputs import stage
from fusecli.run.plan import Job, Plan
from fusecli.run.work import Work


class RegisterItem(Work):
    """The work of `fusecli register`: called with one job in each thread.

    Args:
        alignment: How transforms are found.
        choices: Which side moves, and what is written of it.
        resampling: Of the moving image.
        out: Output folder; None where OUT is one file, and the transform lies beside it.
    """

    def __init__(
        self, alignment: Alignment, choices: Choices, resampling: Resampling, out: Path | None
    ) -> None:
        self.alignment, self.choices, self.resampling = alignment, choices, resampling
        self.out = out

    def __call__(self, job: Job) -> Outcome:
        """Read, register and write one pair."""
        watch, outcome = Stopwatch(), Outcome(job.key, out=job.out)
        with watch("read"):
            fixed, moving = read_sides(job, self.choices.fixed)
            outcome.notes |= tiff.page_notes(fixed, moving)
        with watch("run"):
            found = register_pictures(fixed, moving, self.alignment, self.resampling, job.key)
            moved = found.moved
        with watch("write"):
            metadata = None
            if self.choices.metadata == "keep":
                metadata = metadata_of(moving.metadata, fixed.metadata)
            data = images.encode(
                moved.pixels,
                format=job.format,
                alpha=moved.alpha,
                metadata=metadata,
                quality=self.choices.quality,
                invalid=moved.invalid,
            )
            files = self._beside(job, found)
            outcome.parts = stage([*files, (job.out, data)])
        outcome.ms = watch.ms
        outcome.record = {
            "shape": list(moved.pixels.shape),
            "dtype": str(moved.pixels.dtype),
        }
        note_transform(found.transform, outcome)
        return outcome

    def settings(self) -> dict[str, Any]:
        """Return everything that changes results, for the fingerprint of a run."""
        return {
            "command": "register",
            "resampling": asdict(self.resampling),
            **asdict(self.choices),
            **self.alignment.settings(),
        }

    def files(self, job: Job) -> Iterator[str]:
        """Yield the names of all files of a job."""
        if job.out == "-":
            return
        yield job.out
        path = self._transform_path(job)
        for suffix in (".json", ".npz", ".flo", ".tif"):
            yield str(path.with_suffix("")) + suffix
        for folder in (".mask", ".preview"):
            if self.out is not None:
                yield str(self.out / folder / f"{job.key}.png")

    def _transform_path(self, job: Job) -> Path:
        if self.out is None:
            return Path(job.out).with_suffix(".json")
        return self.out / "transforms" / f"{job.key}.json"

    def _beside(self, job: Job, found: RegisteredPair) -> list[tuple[str, bytes]]:
        """Return the files besides the image."""
        if job.out == "-":
            return []
        files = found.transform.files(self._transform_path(job), self.choices.save_field)
        if self.out is None:
            return files
        if self.choices.save_mask:
            mask = images.encode(found.covered.astype(np.uint8) * 255, format="png")
            files.append((str(self.out / ".mask" / f"{job.key}.png"), mask))
        if self.choices.preview != "none":
            picture = preview(self.choices.preview, found)
            data = images.encode(picture, format="png")
            files.append((str(self.out / ".preview" / f"{job.key}.png"), data))
        return files


def estimate_rig(alignment: Alignment, fixed_side: Side, jobs: Plan) -> Transform:
    """Return the one transform that the pairs of a fixed rig agree on.

    Raises:
        InputError: `register.rig`: the sizes differ; `register.rejected`: the pairs agree on
            nothing; or the first unreadable image.
    """
    rig: Rig | None = None
    sizes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    for job in jobs.everything():
        fixed, moving = (luma_of(side) for side in read_sides(job, fixed_side))
        if rig is None:
            sizes = fixed.shape, moving.shape
            rig = Rig(*sizes, alignment.transform)
        found = alignment.estimate(fixed, moving, alignment.transform if rig.dense else rig.shape)
        rig.add(job.key, found, fixed.shape, moving.shape)
    if rig is None:
        raise InputError(
            "there is nothing to register",
            code="pair.none",
            hint="name folders that hold images, or a list with a line for each pair",
        )
    agreed = rig.agree()
    if not agreed.accepted and alignment.on_reject == "fail":
        raise InputError(
            f"the camera rig could not be registered: {agreed.refusal}",
            code="register.rejected",
            facts=rig.refused,
            hint=REMEDIES,
        )
    transform = as_transform(agreed, "rig", *sizes)
    details = {
        "pairs": rig.seen,
        "registered": len(rig.accepted),
        "refusal": agreed.refusal,
        "refused": rig.refused,
    }
    return replace(transform, parameters=details)


def read_sides(job: Job, fixed: Side) -> tuple[Picture, Picture]:
    """Return the fixed and the moving picture of a job."""
    paths = (job.vis, job.ir) if fixed == "vis" else (job.ir, job.vis)
    return images.read(paths[0]), images.read(paths[1])


def preview(kind: str, found: RegisteredPair) -> np.ndarray:
    """Return a picture of a registration, (H, W, 3) uint8.

    Args:
        kind: `checker`, `overlay` or `field`.
        found: The pair, registered.
    """
    if kind == "field":
        return pictures.wheel(found.transform.displacement()[0].permute(1, 2, 0).numpy())
    pixels = found.moved.pixels
    unit = images.luma(images.to_unit(pixels, images.limits(pixels, "p0.5:p99.5", ~found.covered)))
    draw = pictures.checker if kind == "checker" else pictures.overlay
    return draw(stretched(found.fixed), unit, found.covered)


def stretched(luma: np.ndarray) -> np.ndarray:
    """Return an image between its own 0.5 and 99.5 percentiles, for the eye."""
    return images.to_unit(luma, images.limits(luma, "p0.5:p99.5"))
