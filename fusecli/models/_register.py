"""What ReCoNet's two registers share: their inputs, the way to a field, the recipe."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli import losses
from fusecli.errors import UsageError
from fusecli.losses import Terms
from fusecli.models import Option, Sample, Stage
from fusecli.models._blocks import ConvBlock, magnitude
from fusecli.ops.resample import integrate, resample

AUX_CHANNELS = {"sobel": 4, "canny": 4, "none": 2}


class Register(nn.Module):
    """Finds the field that brings one (B, 1, H, W) image in 0..1 onto another, any size.

    Args:
        trunk: Maps (B, C, H, W) to a (B, 2, H, W) velocity in pixels, C as in `AUX_CHANNELS`.
        multiple: Height and width the trunk needs are multiples of this; images are extended
            right and bottom by replication and the field is cropped.
        aux: Gradient magnitudes beside the images: `sobel`, `canny` (thinned) or `none`.
        integrate_steps: Squarings from velocity to displacement; 0 takes the one for the other.

    Raises:
        UsageError: A negative number of squarings.

    Source:
        Huang et al., ECCV 2022, section 3.2; integration after the authors' code.
    """

    def __init__(self, trunk: nn.Module, multiple: int, aux: str, integrate_steps: int) -> None:
        super().__init__()
        if integrate_steps < 0:
            raise UsageError(
                f"a register cannot integrate in {integrate_steps} steps",
                code="usage.set",
                hint="--set integrate_steps=7, or 0 for the velocity itself",
            )
        self.trunk = trunk
        self.multiple = multiple
        self.aux = aux
        self.integrate_steps = integrate_steps

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Return the displacement, (B, 2, H, W) pixels (dx, dy), at which to read `moving`."""
        height, width = fixed.shape[-2:]
        extra = (0, -width % self.multiple, 0, -height % self.multiple)
        pair = [F.pad(image, extra, mode="replicate") for image in (moving, fixed)]
        velocity = self.trunk(self.look(*pair))
        # Half precision is enough for the velocity, but not for adding up positions.
        exact = torch.promote_types(velocity.dtype, torch.float32)
        return integrate(velocity.to(exact), self.integrate_steps)[..., :height, :width]

    def look(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Return what the trunk sees, (B, 2 or 4, H, W)."""
        images = [moving, fixed]
        if self.aux != "none":
            edges = sobel_edges if self.aux == "sobel" else canny_edges
            images += [edges(moving), edges(fixed)]
        return torch.cat(images, 1)


def gelu_block(inputs: int, outputs: int, kernel: int = 3, **how: int) -> ConvBlock:
    """Return a convolution followed by a GELU, without norm."""
    return ConvBlock(inputs, outputs, kernel, norm=False, activation=nn.GELU, **how)


def velocity_layer(inputs: int) -> nn.Conv2d:
    """Return the last layer, which starts at almost no motion."""
    layer = nn.Conv2d(inputs, 2, 3, padding=1)
    nn.init.normal_(layer.weight, std=1e-5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Sobel responses of an image smoothed by a 5x5 Gaussian of sigma 1."""
    window = losses.gaussian_window(5, 1.0).to(image).view(1, 1, 1, 5)
    smooth = F.conv2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), window)
    return losses.sobel(F.conv2d(smooth, window.transpose(2, 3)))


def sobel_edges(image: Tensor) -> Tensor:
    """Return the gradient magnitude of a (B, 1, H, W) image."""
    return magnitude(*_gradient(image))


def canny_edges(image: Tensor) -> Tensor:
    """Return the gradient magnitude where it is the largest along its direction, 0 elsewhere.

    This is the Canny operator before its thresholds: its ridges are one pixel wide.
    """
    gx, gy = _gradient(image)
    strength = magnitude(gx, gy)
    sector = torch.round(torch.atan2(gy, gx) * (4 / torch.pi)).long() % 4
    around = F.pad(strength, (1, 1, 1, 1))
    height, width = strength.shape[-2:]

    def shifted(dx: int, dy: int) -> Tensor:
        return around[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    steps = ((1, 0), (1, 1), (0, 1), (-1, 1))
    highest = torch.cat([torch.maximum(shifted(dx, dy), shifted(-dx, -dy)) for dx, dy in steps], 1)
    return strength * (strength > highest.gather(1, sector))


class Roles(NamedTuple):
    """Who is brought onto whom, (B, 1, H, W) each.

    Args:
        moving: As the register sees it, displaced.
        fixed: What it should lie on.
        undisplaced: The moving image where it should come to lie.
    """

    moving: Tensor
    fixed: Tensor
    undisplaced: Tensor


def roles(sample: Sample) -> Roles:
    """Return the roles of the images in each crop.

    The visible image moves, as in the paper. With the option `moves=either` it does so in the
    first, third, ... crop only; in the others the infrared image was displaced in the same way
    and must be read at the same places. Crops are numbered at random, so roles are too.
    """
    visible = Roles(sample.vis, sample.ir, sample.vis_true)
    if sample.options["moves"] == "visible":
        return visible
    infrared = Roles(sample.ir_true, sample.vis_true, sample.ir)
    first = torch.arange(len(sample.vis), device=sample.vis.device).view(-1, 1, 1, 1) % 2 == 0
    return Roles(*(torch.where(first, v, i) for v, i in zip(visible, infrared, strict=True)))


def field_terms(field: Tensor, moved: Tensor, undisplaced: Tensor, sample: Sample) -> Terms:
    """Return the terms of a field that should bring one image onto the other.

    `field` is the squared distance from the true displacement (zero where nothing was displaced),
    `smooth` the total variation; both are means over pixels, in units of half the image's extent
    unless the option `field_units` says pixels. `edges` compares the moved image with itself where
    it was not displaced, and belongs to the authors' later code.

    The unit decides the balance, because one term is squared and the other is not: normalised,
    `smooth` outweighs displacements of a pixel or two and the register stays still; in pixels it
    learns them.
    """
    height, width = field.shape[-2:]
    truth = torch.zeros_like(field) if sample.field is None else sample.field
    if sample.options["field_units"] == "normalised":
        unit = field.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)]).view(1, 2, 1, 1)
        field, truth = field * unit, truth * unit

    def variation() -> Tensor:
        across, along = field.diff(dim=-1), field.diff(dim=-2)
        return across.abs().sum(1).mean() + along.abs().sum(1).mean()

    return Terms(
        {
            "field": lambda: (field - truth).square().sum(1).mean(),
            "smooth": variation,
            "edges": lambda: F.mse_loss(sobel_edges(moved), sobel_edges(undisplaced)),
        }
    )


def registration_loss(network: nn.Module, sample: Sample) -> Terms:
    """Return the terms of moving one image onto the other."""
    moving, fixed, undisplaced = roles(sample)
    field = network(moving, fixed)
    return field_terms(field, resample(moving, field), undisplaced, sample)


# Weight of the true field against its smoothness (paper, section 4.1).
ETA = 0.78
WEIGHTS = {"field": ETA, "smooth": 1 - ETA, "edges": 0.0}

STAGE = Stage(
    "register",
    registration_loss,
    WEIGHTS,
    epochs=300,
    batch_size=8,
    crop=256,
    lr=1e-3,
    misalign="reconet-normal",
)

INPUT_OPTIONS = (
    Option("aux", "sobel", "gradient magnitudes beside the images", tuple(AUX_CHANNELS)),
    Option("integrate_steps", 7, "squarings from velocity to displacement; 0: none"),
)
FIELD_UNITS = Option(
    "field_units",
    "normalised",
    "unit of the field's loss terms: half the image's extent, or pixels",
    ("normalised", "pixels"),
    recipe=True,
)
MOVES = Option(
    "moves",
    "visible",
    "side that training displaces; a register that has seen either can move the infrared image",
    ("visible", "either"),
    recipe=True,
)
LIMIT = "Finds small smooth displacements only, as it was trained on."


def published_register(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a training checkpoint, without those of the fuser trained beside."""
    entries = state.get("state_dict", state)
    return {key: value for key, value in entries.items() if not key.startswith("fuser.")}
