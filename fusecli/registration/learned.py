"""A trained register as a method of registration: `--method reconet`.

The search and the matrix come first, as for every method; the network finds the smooth rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from fusecli import checkpoint
from fusecli.errors import MissingError, UsageError
from fusecli.fields import inside, invert
from fusecli.options import Side
from fusecli.registration.features import Image, fit_size, resize_field, shrink

SIDE = 512
"""Longer side, in pixels, at which a register looks: about that of the images it learnt from."""
_TOLERANCE = 0.1  # pixels, to which a field is inverted
_LOST = 0.02  # share of the places inside the image that may have no inverse


@dataclass(frozen=True)
class LearnedRegister:
    """Finds the smooth displacement between two images of one size; a small value to pass around.

    The network is loaded where it is first used, once in each process.

    Args:
        weights: A file, or a name in a manifest.
        sha256: Of the file.
        fixed: The side that stays. A register that has only learnt to move the visible image is
            asked for that move, and its field is inverted, where the infrared image moves.
    """

    weights: str
    sha256: str
    fixed: Side = "vis"

    @classmethod
    def of(cls, weights: str | None, fixed: Side = "vis") -> LearnedRegister | None:
        """Return a register after looking at its weights; None without weights.

        Raises:
            MissingError: No such weights, or they do not fit (exit 5).
            UsageError: `register.weights`: random, or of a network that does not register.
        """
        if weights is None:
            return None
        if weights == "random":
            raise UsageError(
                "random weights register nothing",
                code="register.weights",
                hint="leave --method out, or name a file of weights",
            )
        loaded = checkpoint.load(None, weights)
        assert loaded.sha256 is not None  # only random weights have none
        found = cls(weights, loaded.sha256, fixed)
        _head(loaded)
        return found

    @torch.inference_mode()
    def __call__(self, fixed: Image, view: Image) -> Image | None:
        """Return where each fixed pixel lies in the view, (H, W, 2) pixels; None if nowhere.

        Args:
            fixed: (H, W) in 0..1.
            view: The moving image brought near on the same grid, (H, W) in 0..1.

        Raises:
            MissingError: `weights.differ`: the weights are not those the run began with.
        """
        size = fit_size(fixed.shape, SIDE)
        here, there = (_tensor(shrink(image, size)) for image in (fixed, view))
        network, visible_only = _loaded(self.weights, self.sha256)
        if visible_only and self.fixed == "vis":
            field = _inverse(network(here, there))
        else:
            field = network(there, here)
        if field is None:
            return None
        grid = field[0].permute(1, 2, 0).contiguous().numpy()
        return resize_field(grid, fixed.shape)


@lru_cache(maxsize=2)
def _loaded(weights: str, sha256: str) -> tuple[nn.Module, bool]:
    """Return the register, and whether it can only move the visible image."""
    loaded = checkpoint.load(None, weights)
    if loaded.sha256 != sha256:
        raise MissingError(
            f"this worker has other weights in {weights}: {loaded.sha256}",
            code="weights.differ",
            hint="name a file that every worker sees with --weights",
        )
    return _head(loaded), loaded.options.get("moves") != "either"


def _head(loaded: checkpoint.Loaded) -> nn.Module:
    """Return the part of a network that registers."""
    if loaded.spec.role == "register":
        return loaded.network
    if loaded.model == "reconet-plus":
        part: nn.Module = loaded.network.get_submodule("register")
        return part
    raise UsageError(
        f"{loaded.label} holds weights of {loaded.model}, which registers nothing",
        code="register.weights",
        hint="give weights of reconet-m-register, reconet-u-register or reconet-plus",
    )


def _inverse(field: Tensor) -> Tensor | None:
    """Return the field that leads back; None where much of it has no way back, as at folds."""
    inverse = invert(field, tolerance=_TOLERANCE)
    within = inside(inverse.field, field.shape[-2:])
    lost = within & ~inverse.valid
    return None if float(lost.float().mean()) > _LOST else inverse.field


def _tensor(image: Image) -> Tensor:
    return torch.from_numpy(image)[None, None]
