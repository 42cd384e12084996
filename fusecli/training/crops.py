"""Training data: pairs decoded once, and crops that depend on their number alone.

Crop number n of a run is a function of (seed, n): which pair, where, how turned and how displaced.
So a resumed run sees what the uninterrupted one would have seen, and the processes of a parallel
run share the work by taking different numbers.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusecli import images, warps
from fusecli.errors import InputError
from fusecli.fields import invert
from fusecli.models import Sample
from fusecli.ops.resample import resample
from fusecli.pairs import Pair

UNSHIFTED = 0.1  # share of the crops that stay in place although shifts are asked for
INVERSE = 0.05  # pixels to which the true field of a distortion is found
MEMORY = 4 << 30  # bytes of decoded luma kept; pairs beyond it are read again each time

T = TypeVar("T")
Luma = NDArray[np.uint8] | NDArray[np.uint16]


def split(pairs: Sequence[Pair], fraction: float) -> tuple[list[Pair], list[Pair]]:
    """Return (training, validation) pairs; where a pair goes depends on its key alone.

    At least one pair lands on each side.

    Args:
        pairs: All pairs.
        fraction: Share to hold back, 0..1. With 0 nothing is held back.

    Raises:
        InputError: Fewer than two pairs, where one must be held back.
    """
    if fraction == 0:
        return list(pairs), []
    if len(pairs) < 2:
        raise InputError(
            f"training needs two pairs, one to learn from and one to validate on; got {len(pairs)}",
            code="train.pairs",
            hint="add pairs, or give --val-ir and --val-vis, or --val-fraction 0",
        )
    ranked = sorted(pairs, key=lambda pair: _place(pair.key))
    held = sum(_place(pair.key) < fraction for pair in ranked)
    held = min(max(held, 1), len(ranked) - 1)
    validation = {pair.key for pair in ranked[:held]}
    return [p for p in pairs if p.key not in validation], [p for p in pairs if p.key in validation]


def _place(key: str) -> float:
    """Return a number in 0..1 that is the same for a key on every machine."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


class Pictures:
    """The luma of pairs, held in memory as 8 or 16 bits as far as `memory` reaches.

    Args:
        pairs: At least one.
        smallest: Height and width that every image must have.
        memory: Bytes to keep.
        threads: Decoding threads.

    Raises:
        InputError: A file that cannot be read, two sizes in one pair, or an image that is too
            small for the crops. Only pairs beyond `memory` are found out later, when they are read.
    """

    def __init__(
        self, pairs: Sequence[Pair], smallest: int, memory: int = MEMORY, threads: int = 1
    ) -> None:
        self.pairs, self.smallest = pairs, smallest
        self.kept: dict[int, tuple[Luma, Luma]] = {}
        used = 0
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(pairs), 4 * threads):
                block = range(start, min(start + 4 * threads, len(pairs)))
                for index, pair in zip(block, pool.map(self._read, block), strict=True):
                    self.kept[index] = pair
                    used += pair[0].nbytes + pair[1].nbytes
                if used > memory:
                    return

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Luma, Luma]:
        """Return infrared and visible luma, (H, W) each."""
        return self.kept.get(index) or self._read(index)

    def _read(self, index: int) -> tuple[Luma, Luma]:
        pair = self.pairs[index]
        ir, vis = read_luma(pair.ir), read_luma(pair.vis)
        if ir.shape != vis.shape:
            raise InputError(
                f"'{pair.key}': infrared is {_size(ir)} but visible is {_size(vis)}",
                code="size.mismatch",
                facts=[pair.ir, pair.vis],
                hint="align them first: fusecli register IR VIS -o aligned/",
            )
        if min(ir.shape) < self.smallest:
            raise InputError(
                f"'{pair.key}' is {_size(ir)}, too small for crops that need {self.smallest} pixels"
                " on each side",
                code="train.crop",
                facts=[pair.ir, pair.vis],
                hint=f"use --crop {max(1, min(ir.shape) - (self.smallest % 8))} or smaller,"
                " or leave the pair out",
            )
        return ir, vis


def _size(image: Luma) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def read_luma(path: str) -> Luma:
    """Return the luma of a file: 8 bits of an 8-bit file, 16 bits scaled to its range of others."""
    pixels = images.read(path).pixels
    unit = images.to_unit(images.luma(pixels), images.limits(pixels, "auto"))
    eight = pixels.dtype == np.uint8
    return np.rint(unit * (255 if eight else 65535)).astype(np.uint8 if eight else np.uint16)


@dataclass(frozen=True)
class CropPlan:
    """How crops are cut.

    Args:
        seed: Of the run.
        crop: Edge in pixels.
        augment: Flip and turn at random, both images alike.
        misalign: `none`, `shift:PX` (the infrared crop lies up to PX pixels off along each axis),
            or a preset of `fusecli warp`, which distorts the visible crop.
        input_range: What black and white become.

    Raises:
        UsageError: A misalignment that is none of these.
    """

    seed: int
    crop: int
    augment: bool = True
    misalign: str = "none"
    input_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.misalign != "none" and not self.shift:
            preset, _, kind = self.misalign.partition(":")
            warps.recipe(preset, kind or None)

    @property
    def shift(self) -> int:
        """Largest displacement of `shift:PX`, 0 for other misalignments."""
        return int(self.misalign[6:]) if self.misalign.startswith("shift:") else 0

    @property
    def smallest(self) -> int:
        """Edge an image must have, so that no crop needs padding."""
        return self.crop + self.shift


class Crops:
    """Numbered crops of pictures.

    Args:
        pictures: Where from.
        plan: How.
        options: Values of the recipe's options, handed to the losses.
    """

    def __init__(
        self, pictures: Pictures, plan: CropPlan, options: Mapping[str, Any] | None = None
    ) -> None:
        self.pictures, self.plan, self.options = pictures, plan, options or {}
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def picture_of(self, number: int) -> int:
        """Return the picture of a crop: every epoch visits each picture once, in its own order."""
        epoch, place = divmod(number, len(self.pictures))
        known, order = self._order
        if known != epoch:
            generator = np.random.default_rng((self.plan.seed, 0, epoch))
            order = generator.permutation(len(self.pictures))
            self._order = epoch, order  # one assignment: threads never see half of it
        return int(order[place])

    def batch(self, numbers: Sequence[int]) -> Sample:
        """Return the crops with these numbers as one sample."""
        return self._stack([self._cut(self.picture_of(n), n, self.plan.augment) for n in numbers])

    def fixed(self, pictures: Sequence[int]) -> Sample:
        """Return the crops that stand for some pictures in every validation, never turned."""
        return self._stack([self._cut(picture, picture, augment=False) for picture in pictures])

    def _cut(self, picture: int, number: int, augment: bool) -> _Crop:
        generator = np.random.default_rng((self.plan.seed, 1, number))
        ir, vis = self.pictures[picture]
        if augment:  # of the whole picture: a view, and displacements need no turning
            turns, flip = (int(n) for n in generator.integers((4, 2)))
            ir, vis = np.rot90(ir, turns), np.rot90(vis, turns)
            if flip:
                ir, vis = ir[:, ::-1], vis[:, ::-1]
        if self.plan.shift:
            return self._shifted(ir, vis, generator)
        top, left = (int(generator.integers(side - self.plan.crop + 1)) for side in ir.shape)
        if self.plan.misalign != "none":
            return self._warped(ir, vis, top, left, generator)
        ir_crop, vis_crop = self._window(ir, top, left), self._window(vis, top, left)
        return _Crop(ir_crop, vis_crop, ir_crop, vis_crop, None)

    def _shifted(self, ir: Luma, vis: Luma, generator: np.random.Generator) -> _Crop:
        """Cut the infrared crop a few pixels beside the visible one, both inside the picture."""
        reach, dx, dy = self.plan.shift, 0, 0
        if generator.random() >= UNSHIFTED:
            dx, dy = (int(d) for d in generator.integers(-reach, reach + 1, 2))
        rows, columns = (side - self.plan.crop for side in ir.shape)
        top = int(generator.integers(max(0, -dy), rows - max(0, dy) + 1))
        left = int(generator.integers(max(0, -dx), columns - max(0, dx) + 1))
        field = torch.tensor([dx, dy], dtype=torch.float32).view(2, 1, 1)
        return _Crop(
            ir=self._window(ir, top + dy, left + dx),
            vis=self._window(vis, top, left),
            ir_true=self._window(ir, top, left),
            vis_true=self._window(vis, top + dy, left + dx),
            field=field.expand(-1, self.plan.crop, self.plan.crop),
        )

    def _warped(
        self, ir: Luma, vis: Luma, top: int, left: int, generator: np.random.Generator
    ) -> _Crop:
        """Read the visible crop through a drawn distortion, from the whole picture."""
        from fusecli.warps.drawing import draw

        size = self.plan.crop
        source = torch.Generator().manual_seed(int(generator.integers(2**62)))
        backward = draw(self.plan.misalign, (1, size, size), source)
        in_picture = backward + torch.tensor([left, top]).view(1, 2, 1, 1)

        def distorted(image: Luma) -> Tensor:
            return resample(_unit(image)[None], in_picture, border="reflect")[0]

        return _Crop(
            ir=self._window(ir, top, left),
            vis=distorted(vis),
            ir_true=distorted(ir),
            vis_true=self._window(vis, top, left),
            field=invert(backward, tolerance=INVERSE).field[0],
        )

    def _window(self, image: Luma, top: int, left: int) -> Tensor:
        return _unit(image[top : top + self.plan.crop, left : left + self.plan.crop])

    def _stack(self, crops: Sequence[_Crop]) -> Sample:
        low, high = self.plan.input_range

        def batch(name: str) -> Tensor:
            images = torch.stack([getattr(crop, name) for crop in crops])
            return images if (low, high) == (0.0, 1.0) else images * (high - low) + low

        ir, vis = batch("ir"), batch("vis")
        if self.plan.misalign == "none":
            return Sample(ir, vis, ir, vis, options=self.options)
        field = torch.stack([crop.field for crop in crops if crop.field is not None])
        return Sample(ir, vis, batch("ir_true"), batch("vis_true"), field, self.options)


class _Crop(NamedTuple):
    """Images of shape (1, crop, crop) in 0..1 and the field (2, crop, crop), as in `Sample`."""

    ir: Tensor
    vis: Tensor
    ir_true: Tensor
    vis_true: Tensor
    field: Tensor | None


def _unit(image: Luma) -> Tensor:
    """Return (1, H, W) in 0..1."""
    return torch.from_numpy(image.astype(np.float32) / np.iinfo(image.dtype).max)[None]


def on_device(sample: Sample, device: torch.device) -> Sample:
    """Return a sample on a device."""
    moved: dict[str, Any] = {
        name: value.to(device, non_blocking=True)
        for name, value in vars(sample).items()
        if isinstance(value, Tensor)
    }
    return replace(sample, **moved)


def ahead(prepare: Callable[[int], T], numbers: Iterable[int], threads: int) -> Iterator[T]:
    """Yield `prepare(n)` of each number in order, some prepared by threads while one is used."""
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for number in numbers:
            waiting.append(pool.submit(prepare, number))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
