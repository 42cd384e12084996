"""Perceptual distance: how far two images lie apart in features of a network trained on ImageNet.

The papers use VGG-16 up to the third ReLU of its third block. Its weights are not shipped here:
they are read from the file in `FUSECLI_VGG16` or from the torch hub cache. Without them Sobel
gradients at three scales serve, which know nothing of objects. `describe` says which it was, for
the model card.
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli.errors import MissingError
from fusecli.losses import sobel

VGG_VARIABLE = "FUSECLI_VGG16"
DESCRIPTIONS = {
    "vgg": "VGG-16, ImageNet weights, relu3_3",
    "gradient": "Sobel gradients at scales 1, 1/2 and 1/4 (no network)",
}


def used(choice: str = "auto") -> str:
    """Return which features `choice` means on this machine: `vgg` or `gradient`.

    Args:
        choice: One of these, or `auto`: the first that can be had.

    Raises:
        MissingError: `train.perceptual`, when the features asked for cannot be had.
    """
    if choice == "auto":
        return "vgg" if _vgg_file() else "gradient"
    if choice == "vgg" and not _vgg_file():
        raise MissingError(
            "no VGG-16 weights for the perceptual loss",
            code="train.perceptual",
            facts=[
                f"looked in {VGG_VARIABLE} and in {_hub_folder()}",
                "wanted: the state dict of torchvision's vgg16, vgg16-397923af.pth",
            ],
            hint=f"export {VGG_VARIABLE}=/path/to/vgg16-397923af.pth, or --set perceptual=gradient",
        )
    return choice


def describe(choice: str = "auto") -> str:
    """Return in words which features `choice` means on this machine, for the model card."""
    return DESCRIPTIONS[used(choice)]


def distances(image: Tensor, targets: Sequence[Tensor], choice: str) -> list[Tensor]:
    """Return the root mean square feature difference from an image to each target.

    Args:
        image: (B, 1, H, W), 0..1.
        targets: The same shape each; they get no gradient.
        choice: What `used` returned.

    Returns:
        Scalars, the mean over the batch: the Frobenius norm of each image's difference over the
        square root of its number of elements.
    """
    extract = _network(choice, image.device)
    features = extract(image)
    scalars = []
    for target in targets:
        with torch.no_grad():
            wanted = extract(target)
        apart = [(a - b).float().flatten(1) for a, b in zip(features, wanted, strict=True)]
        joined = torch.cat(apart, 1)
        # the norm of vanishing differences has a gradient of 0, the root of their mean has none
        scalars.append(torch.linalg.vector_norm(joined, dim=1).mean() / joined.shape[1] ** 0.5)
    return scalars


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _vgg_file() -> Path | None:
    named = os.environ.get(VGG_VARIABLE)
    if named:
        return Path(named) if Path(named).is_file() else None
    return next(iter(sorted(_hub_folder().glob("vgg16-*.pth"))), None)


@functools.cache
def _network(choice: str, device: torch.device) -> nn.Module:
    """Return the frozen network that maps (B, 1, H, W) to a tuple of feature maps."""
    network = Vgg16() if choice == "vgg" else Gradients()
    file = _vgg_file() if choice == "vgg" else None
    if file:
        state = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(_part(network, state, file))
    return network.eval().requires_grad_(False).to(device)


def _part(network: nn.Module, state: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the entries of a state dict that the shortened network holds.

    Raises:
        MissingError: `train.perceptual`, when one is absent or has another shape.
    """
    wanted = network.state_dict()
    wrong = [k for k, t in wanted.items() if k not in state or state[k].shape != t.shape]
    if wrong:
        raise MissingError(
            f"{file.name} does not hold the weights of {type(network).__name__}",
            code="train.perceptual",
            facts=[f"missing or of another shape: {key}" for key in wrong[:5]],
            hint="download the file again, or train with --set perceptual=gradient",
        )
    return {key: state[key] for key in wanted}


class Gradients(nn.Module):
    """Sobel responses along both axes at scales 1, 1/2 and 1/4."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return six (B, 1, h, w) maps."""
        maps: list[Tensor] = []
        for scale in range(3):
            image = F.avg_pool2d(image, 2) if scale else image
            maps += sobel(image)
        return tuple(maps)


class Vgg16(nn.Module):
    """VGG-16 up to relu3_3, layers numbered as torchvision numbers them.

    Source:
        Simonyan and Zisserman, ICLR 2015.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, repeats in ((64, 2), (128, 2), (256, 3)):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(repeats):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
        self.features = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return one (B, 256, H / 4, W / 4) map."""
        mean = image.new_tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        deviation = image.new_tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        return (self.features((image - mean) / deviation),)
