"""Misaligned copies with known truth, a folder of them: `fusecli warp`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusecli import images, pictures, writing
from fusecli.errors import InputError
from fusecli.fields import translation
from fusecli.images import Picture
from fusecli.images.boxes import Box, crop, cropped, largest_box
from fusecli.outcome import Outcome, Stopwatch
from fusecli.pairs.variants import split
from fusecli.registration.move import move_picture
from fusecli.registration.transform import Transform
from fusecli.run.outputs import discard, stage
from fusecli.run.plan import Job, Plan
from fusecli.run.work import Work
from fusecli.warps import Choices, Recipe, Resampling
from fusecli.warps.drawing import Warp, draw_warp, seeded


class WarpItem(Work):
    """The work of `fusecli warp`: called with one job in each thread.

    Args:
        recipe: Kind and magnitudes.
        choices: Which side is warped, how often, and what is written.
        resampling: Of the warped side.
        seed: Of all draws.
        paired: There is a visible side: OUT gets `ir`, `vis`, `clean` and `truth`.
        out: Output folder; None where OUT is one file, and the truth lies beside it.
    """

    def __init__(
        self,
        recipe: Recipe,
        choices: Choices,
        resampling: Resampling,
        *,
        seed: int = 0,
        paired: bool = True,
        out: Path | None = None,
    ) -> None:
        self.recipe, self.choices, self.resampling = recipe, choices, resampling
        self.seed, self.paired, self.out = seed, paired, out

    def settings(self) -> dict[str, Any]:
        """Return everything that changes results, for the fingerprint of a run."""
        return {
            "command": "warp",
            "recipe": dataclasses.asdict(self.recipe),
            "resampling": dataclasses.asdict(self.resampling),
            "seed": self.seed,
            "paired": self.paired,
            **dataclasses.asdict(self.choices),
        }

    def __call__(self, job: Job) -> Outcome:
        """Read, warp and write one item."""
        watch, outcome = Stopwatch(), Outcome(job.key, out=job.out)
        choices = self.choices
        with watch("read"):
            clean = images.read(job.ir if choices.which == "ir" else job.vis)
        size = clean.pixels.shape[:2]
        with watch("run"):
            key, number = split(job.key, choices.variants)
            generator = seeded(self.seed, key, number)
            warp = draw_warp(self.recipe, size, generator, choices.exact)
            warped, covered = move_picture(clean, warp.backward, self.resampling)
            low, high = images.limits(clean.pixels, "auto", clean.invalid)
            warped = noisy(warped, choices.noise / 100 * (high - low), generator)
            box = largest_box(covered) if choices.crop_valid else (0, 0, *size)
        with watch("write"):
            files = self._beside(job, warp, warped, covered, box)
            files.append((job.out, self._encoded(cropped(warped, box), job.format)))
            parts = self._placed(job, size, box)
            try:
                outcome.parts = [*parts, *stage(files)]
            except BaseException:
                discard(parts)
                raise
        outcome.ms = watch.ms
        outcome.record = {
            "shape": [*box[2:], *warped.pixels.shape[2:]],
            "dtype": str(warped.pixels.dtype),
            "warp": warp.parameters,
        }
        return outcome

    def conclude(self, plan: Plan) -> None:
        """List the true transforms of all shards in one table."""
        if self.out is not None:
            write_index(self.out / "truth", (job.key for job in plan.everything()))

    def files(self, job: Job) -> Iterator[str]:
        """Yield the names of all files of a job."""
        if job.out == "-":
            return
        yield job.out
        truth = str(self._truth_path(job).with_suffix(""))
        yield from (truth + suffix for suffix in (".json", ".npz", ".flo", ".tif"))
        if self.out is not None:
            for folder in (".mask", ".preview"):
                yield str(self.out / folder / f"{job.key}.png")
        yield from (final for _, final in self._others(job))

    def _truth_path(self, job: Job) -> Path:
        if self.out is None:
            return Path(job.out).with_suffix(".json")
        return self.out / "truth" / f"{job.key}.json"

    def _encoded(self, picture: Picture, format: str) -> bytes:
        keep = self.choices.metadata == "keep"
        return images.encode(
            picture.pixels,
            format=format,
            alpha=picture.alpha,
            # warped or cropped, the pixels no longer lie where the tags say
            metadata=picture.metadata.without_grid() if keep else None,
            quality=self.choices.quality,
        )

    def _beside(
        self, job: Job, warp: Warp, warped: Picture, covered: NDArray[np.bool_], box: Box
    ) -> list[tuple[str, bytes]]:
        """Return truth, mask and preview; beside standard output there is no place for them."""
        if job.out == "-":
            return []
        drawn = {"seed": self.seed, "noise": self.choices.noise}
        truth = truth_of(job.key, warp, box, self.recipe.kind, drawn)
        files = truth.files(self._truth_path(job), self.choices.save_field)
        if self.out is None:
            return files
        if self.choices.save_mask:
            mask = images.encode(crop(covered, box).astype(np.uint8) * 255, format="png")
            files.append((str(self.out / ".mask" / f"{job.key}.png"), mask))
        if self.choices.preview != "none":
            backward = crop(warp.backward[0].permute(1, 2, 0).numpy(), box)
            if self.choices.preview == "field":
                picture = pictures.wheel(backward)
            else:
                pixels = crop(warped.pixels, box)
                limits = images.limits(pixels, "p0.5:p99.5")
                picture = pictures.grid(images.luma(images.to_unit(pixels, limits)), backward)
            data = images.encode(picture, format="png")
            files.append((str(self.out / ".preview" / f"{job.key}.png"), data))
        return files

    def _others(self, job: Job) -> list[tuple[str, str]]:
        """Return source and final name of the side that stays and of the clean copy."""
        choices = self.choices
        if not self.paired or self.out is None:
            return []
        sides = [("vis", job.vis), ("clean", job.ir)]
        if choices.which == "vis":
            sides = [("ir", job.ir), ("clean", job.vis)]
        suffix = Path(job.out).suffix if choices.crop_valid else None
        return [
            (source, str(self.out / folder / (job.key + (suffix or Path(source).suffix))))
            for folder, source in sides
        ]

    def _placed(self, job: Job, size: tuple[int, ...], box: Box) -> list[tuple[str, str]]:
        """Return part and final name of the side that stays and of the clean copy.

        Raises:
            InputError: `size.differ`: the sides cannot be cropped alike.
        """
        parts: list[tuple[str, str]] = []
        try:
            for source, final in self._others(job):
                if self.choices.crop_valid:
                    picture = images.read(source)
                    if picture.pixels.shape[:2] != size:
                        raise InputError(
                            f"the two sides of '{job.key}' differ in size and cannot be cropped "
                            "alike",
                            code="size.differ",
                            hint="leave --crop-valid out, or resize one side first",
                        )
                    parts += stage([(final, self._encoded(cropped(picture, box), job.format))])
                else:
                    parts.append((linked(source, final, self.choices.link), final))
        except BaseException:
            discard(parts)
            raise
        return parts


def truth_of(key: str, warp: Warp, box: Box, kind: str, drawn: Mapping[str, Any]) -> Transform:
    """Return the transform that an ideal registration of a warped image finds.

    Args:
        key: Of the item.
        warp: What was drawn for the whole image.
        box: Top, left, height and width of what is kept, on both grids.
        kind: Of the recipe.
        drawn: Further JSON values that say what was drawn.
    """
    top, left, height, width = box
    parameters = {"kind": kind, **drawn, "crop": list(box), **warp.parameters}
    matrix = warp.matrix
    if matrix is not None:
        matrix = translation(-left, -top) @ matrix @ translation(left, top)
        forward = inverse = None
    else:
        forward, inverse = (
            np.ascontiguousarray(crop(tensor[0].permute(1, 2, 0).numpy(), box))
            for tensor in (warp.forward, warp.backward)
        )
    return Transform(
        key=key,
        kind="dense" if matrix is None else kind,
        matrix=matrix,
        fixed_size=(height, width),
        moving_size=(height, width),
        field=forward,
        inverse=inverse,
        method="warp",
        parameters=parameters,
    )


def noisy(picture: Picture, deviation: float, generator: torch.Generator) -> Picture:
    """Return a picture with Gaussian noise; its type stays, and so do pixels without a value.

    Args:
        picture: As stored.
        deviation: In the units of the picture.
        generator: Source of the noise.
    """
    if deviation == 0:
        return picture
    pixels = picture.pixels
    values = pixels + deviation * torch.randn(pixels.shape, generator=generator).numpy()
    if pixels.dtype.kind == "u":
        values = np.rint(np.clip(values, 0, np.iinfo(pixels.dtype).max))
    values = values.astype(pixels.dtype)
    if picture.invalid is not None:
        values[picture.invalid] = pixels[picture.invalid]
    return dataclasses.replace(picture, pixels=values)


def linked(source: str, final: str, how: str) -> str:
    """Return a part beside `final` that is a copy of a file, byte for byte, or a link to it.

    Raises:
        InputError: `write.failed` and its kin; `write.link`: links are not possible there.
    """
    part = writing.write_part(final, b"")
    try:
        if how == "copy":
            shutil.copyfile(source, part)
            return part
        Path(part).unlink()
        if how == "hard":
            os.link(source, part)
        else:
            Path(part).symlink_to(Path(source).resolve())
        return part
    except OSError as error:
        writing.discard(part)
        refused = writing.refused(final, error)
        if how != "copy":
            refused.code, refused.hint = "write.link", "use --link copy"
        raise refused from error


def write_index(folder: Path, keys: Iterable[str]) -> None:
    """Write `index.csv`: every parameter of every truth file that is there, in the order of keys.

    It is made from the files, so that resumed runs and shards end with one and the same index.
    """
    rows: list[dict[str, Any]] = []
    for key in keys:
        path = folder / f"{key}.json"
        if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a name is too long
            document = json.loads(path.read_bytes())
            matrix = document["matrix"]
            cells = {} if matrix is None else {
                f"m{row}{column}": matrix[row][column] for row in range(3) for column in range(3)
            }  # fmt: skip
            rows.append({"key": key, "type": document["type"], **document["parameters"], **cells})
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    writing.write_atomic(
        str(folder / "index.csv"), text.getvalue().encode("utf-8", "surrogateescape")
    )
