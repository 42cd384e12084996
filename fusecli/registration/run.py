"""A folder of pairs, the moving image of each brought onto the fixed one: `fusecli register`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from fusecli import images, previews
from fusecli.errors import InputError
from fusecli.images import Picture, tiff
from fusecli.registration.align import (
    AlignedReport,
    Alignment,
    as_transform,
    luma_of,
    note_transform,
)
from fusecli.registration.move import Resampling, metadata_of
from fusecli.registration.pair import RegisteredPair, register_pictures
from fusecli.registration.rig import Rig
from fusecli.registration.transform import Transform
from fusecli.report import Outcome, Reporter, RunReport, Stopwatch
from fusecli.run import stream
from fusecli.run.outputs import stage
from fusecli.run.plan import Job, Plan
from fusecli.run.record import Record
from fusecli.run.recorded import RecordedRun

Side = Literal["ir", "vis"]
Preview = Literal["none", "checker", "overlay", "field"]


@dataclass(frozen=True)
class Rules:
    """What `fusecli register` writes, and how; see CLI.md 9.2.

    Args:
        fixed: The side that stays.
        per: `pair`, or `folder` for one transform of a fixed rig.
        resampling: Of the moving image.
        save_field: Form in which every transform is written as a field too.
        save_mask: Also write where the moved image has data.
        preview: Also write a picture for the eye.
        metadata: Of the moved image: its own, on the grid of the fixed one.
        quality: Of JPEG and WebP.
    """

    fixed: Side = "vis"
    per: Literal["pair", "folder"] = "pair"
    resampling: Resampling = Resampling()
    save_field: Literal["none", "npz", "flo", "tiff"] = "none"
    save_mask: bool = False
    preview: Preview = "none"
    metadata: Literal["keep", "drop"] = "keep"
    quality: int = 95


class RegisterPair:
    """The work of `fusecli register`: called with one job in each thread.

    Args:
        alignment: How transforms are found.
        rules: See `Rules`.
        out: Output folder; None where OUT is one file, and the transform lies beside it.
    """

    def __init__(self, alignment: Alignment, rules: Rules, out: Path | None) -> None:
        self.alignment, self.rules, self.out = alignment, rules, out

    def __call__(self, job: Job) -> Outcome:
        """Read, register and write one pair."""
        watch, outcome = Stopwatch(), Outcome(job.key, out=job.out)
        with watch("read"):
            fixed, moving = read_sides(job, self.rules.fixed)
            outcome.notes |= tiff.page_notes(fixed, moving)
        with watch("run"):
            found = register_pictures(fixed, moving, self.alignment, self.rules.resampling, job.key)
            moved = found.moved
        with watch("write"):
            metadata = None
            if self.rules.metadata == "keep":
                metadata = metadata_of(moving.metadata, fixed.metadata)
            data = images.encode(
                moved.pixels,
                format=job.format,
                alpha=moved.alpha,
                metadata=metadata,
                quality=self.rules.quality,
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
        files = found.transform.files(self._transform_path(job), self.rules.save_field)
        if self.out is None:
            return files
        if self.rules.save_mask:
            mask = images.encode(found.covered.astype(np.uint8) * 255, format="png")
            files.append((str(self.out / ".mask" / f"{job.key}.png"), mask))
        if self.rules.preview != "none":
            picture = preview(self.rules.preview, found)
            data = images.encode(picture, format="png")
            files.append((str(self.out / ".preview" / f"{job.key}.png"), data))
        return files


class RegisterRun(RecordedRun):
    """One run over many pairs.

    Args:
        alignment: How transforms are found.
        rules: See `Rules`.
        jobs: What to do; a rig is estimated from all shards of it.
        out: Output folder, or None where OUT is one file.
        threads: Pairs in work at the same time.
        record: Where the run is recorded, if it is.
        reporter: The voice of the command.
        pool: Where the work is done; threads of this process without it.

    Raises:
        InputError: `register.rig`: the sizes of the images differ.
    """

    def __init__(
        self,
        alignment: Alignment,
        rules: Rules,
        jobs: Plan,
        *,
        out: Path | None,
        threads: int,
        record: Record | None,
        reporter: Reporter,
        pool: stream.Pool | None = None,
    ) -> None:
        if rules.per == "folder" and alignment.stored is None:
            reporter.detail("estimating the camera rig from all pairs")
            alignment = replace(alignment, rig=estimate_rig(alignment, rules.fixed, jobs))
        super().__init__(
            RegisterPair(alignment, rules, out),
            jobs,
            {"command": "register", **dataclasses.asdict(rules), **alignment.settings()},
            threads=threads,
            record=record,
            reporter=reporter,
            pool=pool,
        )

    def register(self, out: str, fail_fast: bool = False) -> RunReport:
        """Register every pair and return what became of them.

        Raises:
            InputError: Another run is at work in the same folder, or it cannot be written to.
        """
        return self.run(AlignedReport("register", "registered", out), fail_fast)


def estimate_rig(alignment: Alignment, fixed_side: Side, jobs: Plan) -> Transform:
    """Return the one transform that the pairs of a fixed rig agree on.

    Raises:
        InputError: `register.rig`: the sizes differ; or the first unreadable image.
    """
    rig: Rig | None = None
    sizes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    for job in jobs.everything():
        fixed, moving = (luma_of(side) for side in read_sides(job, fixed_side))
        if rig is None:
            sizes = fixed.shape, moving.shape
            rig = Rig(*sizes, alignment.transform)
        found = alignment.estimate(fixed, moving, alignment.transform if rig.dense else rig.shape)
        rig.add(found, fixed.shape, moving.shape)
    if rig is None:
        raise InputError(
            "there is nothing to register",
            code="pair.none",
            hint="name folders that hold images, or a list with a line for each pair",
        )
    agreed = rig.agree()
    transform = as_transform(agreed, "rig", *sizes)
    details = {"pairs": rig.seen, "registered": len(rig.accepted), "refusal": agreed.refusal}
    return replace(transform, parameters=details)


def read_sides(job: Job, fixed: Side) -> tuple[Picture, Picture]:
    """Return the fixed and the moving picture of a job."""
    paths = (job.vis, job.ir) if fixed == "vis" else (job.ir, job.vis)
    return images.read(paths[0]), images.read(paths[1])


def preview(kind: Preview, found: RegisteredPair) -> np.ndarray:
    """Return a picture of a registration, (H, W, 3) uint8.

    Args:
        kind: `checker`, `overlay` or `field`.
        found: The pair, registered.
    """
    if kind == "field":
        return previews.wheel(found.transform.displacement()[0].permute(1, 2, 0).numpy())
    pixels = found.moved.pixels
    unit = images.luma(images.to_unit(pixels, images.limits(pixels, "p0.5:p99.5", ~found.covered)))
    draw = previews.checker if kind == "checker" else previews.overlay
    return draw(stretched(found.fixed), unit, found.covered)


def stretched(luma: np.ndarray) -> np.ndarray:
    """Return an image between its own 0.5 and 99.5 percentiles, for the eye."""
    return images.to_unit(luma, images.limits(luma, "p0.5:p99.5"))
