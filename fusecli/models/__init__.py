"""What a network is to the rest of fusecli. Every other file in this folder is one network.

Adding a file `newnet.py` that ends with `SPEC = ModelSpec(...)` adds `--model newnet`. Names come
from the file names alone, so listing them imports nothing; `find` imports one file.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fusecli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    Terms = Mapping[str, Tensor]


@dataclass(frozen=True)
class Option:
    """A documented choice of a network or of its recipe, set with `--set NAME=VALUE`.

    Args:
        name: Keyword of `ModelSpec.build`, or a name the recipe's losses read.
        default: Its type (bool, int, float or str) is the type of the option.
        meaning: One line for `fusecli models show`.
        choices: The values allowed; empty means any of the type.
        recipe: True when only training reads it; `build` then never sees it.
        output: True when it says what becomes of the raw output; nor does `build` see that.
    """

    name: str
    default: bool | int | float | str
    meaning: str
    choices: tuple[bool | int | float | str, ...] = ()
    recipe: bool = False
    output: bool = False


# For networks whose authors stretch every result. Weights trained to look right without it are
# saved with `tone=clip`, and `ModelSpec.tone` follows when they are loaded.
TONE = Option(
    "tone",
    "stretch",
    "output as the weights mean it: stretched as published, or clipped; --tone overrides",
    ("stretch", "clip"),
    output=True,
)


@dataclass(frozen=True)
class Sample:
    """One training batch. Images are (B, 1, H, W), scaled to the network's `input_range`.

    Args:
        ir: Infrared, as the network sees it (perhaps displaced).
        vis: Visible luma, as the network sees it (perhaps displaced).
        ir_true: Infrared on the grid of `vis`; equals `ir` where nothing was displaced.
        vis_true: Visible luma on the grid of `ir`; equals `vis` where nothing was displaced.
        field: (B, 2, H, W) pixels (dx, dy), backward: where `vis` must be read so that it lines up
            with `ir`, and becomes `vis_true`. None where nothing was displaced.
        options: Values of the options marked `recipe`.
    """

    ir: Tensor
    vis: Tensor
    ir_true: Tensor
    vis_true: Tensor
    field: Tensor | None = None
    options: Mapping[str, Any] = attribute(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One stage of a training recipe, as data. Every number can be overridden by a flag.

    Args:
        name: For `--stage`.
        loss: `(network, sample) -> {term: scalar}`, a dict or `losses.Terms`, which works out
            what is read. The total is the sum of weight times term.
        weights: Weight of each term; a term with weight 0 is offered but off.
        trains: Prefixes of the parameters that learn; the others are frozen and their modules
            kept in eval mode. `("",)` is all of them.
        epochs: Passes over the pairs; 0 runs only when asked for by name with its own length.
        batch_size: Crops in a step.
        crop: Edge of the square crops, in pixels.
        lr: Learning rate at the start (after `warmup` steps of linear rise).
        optimizer: `adam` or `adamw`.
        schedule: `constant`, `cosine`, or `step:EPOCHS:FACTOR[:FLOOR]`.
        clip_grad: Largest norm of the gradient of each top-level module; 0 does not clip.
        warmup: Steps over which the rate rises from 0.
        misalign: Displacement of the training crops: `none`, `shift:PX` (uniform integer shifts
            of the infrared crop) or a preset of `fusecli warp`.
        critic: Builds the adversary trained in turn with the network (MFEIF's first stage).
        critic_loss: `(critic, network, sample) -> scalar`, minimised by the critic. `loss` then
            takes the critic as third argument.
    """

    name: str
    loss: Callable[..., Terms]
    weights: Mapping[str, float]
    trains: tuple[str, ...] = ("",)
    epochs: int = 100
    batch_size: int = 8
    crop: int = 128
    lr: float = 1e-3
    optimizer: Literal["adam", "adamw"] = "adam"
    schedule: str = "constant"
    clip_grad: float = 0.0
    warmup: int = 0
    misalign: str = "none"
    critic: Callable[[], nn.Module] | None = None
    critic_loss: Callable[..., Tensor] | None = None


def no_facts(options: Mapping[str, Any]) -> dict[str, str]:
    """Return nothing: for a network whose options say all about its training."""
    return {}


def no_context(options: Mapping[str, Any]) -> int:
    """Return the halo of a network that looks at single pixels, or is never tiled: 0."""
    return 0


@dataclass(frozen=True)
class ModelSpec:
    """All that is true of one network: each network file ends with one of these.

    The network built is a `torch.nn.Module`. A fuser's `forward(ir, vis)` takes and returns
    (B, 1, H, W); a register's `forward(moving, fixed)` returns a (B, 2, H, W) displacement field
    in pixels, (dx, dy), backward, that brings `moving` onto `fixed`.

    Args:
        title: The name as the paper writes it.
        paper: Authors, title, venue, year, DOI.
        build: Keyword options to an untrained network.
        options: Every documented choice, with its default.
        stages: The training recipe, in order; empty means inference only.
        role: `fuser` or `register`.
        input_range: Value range of the inputs and of the raw output.
        tone: What becomes of raw output: `clip` to the range, or `stretch` each image from its own
            minimum and maximum, as the authors publish it. `TONE` among the options changes it.
        multiple_of: Height and width are padded up to this (right and bottom) and cropped back.
        padding: How: `reflect` as far as the image reaches and `replicate` beyond, or `replicate`.
        min_size: Smallest height and width the network can take.
        tiling: `exact` when a tile with its halo equals the whole image; `passes` when it does
            once what `ops.whole_image` measures was gathered in passes over all tiles;
            `approximate` when tiles are blended; `never` when none of these will do.
        halo: Options to the pixels of context that a tile needs on each side.
        stride: Tile corners lie on multiples of this, so that pooling grids agree.
        memory: Bytes for each pixel that a float32 run takes at its peak, measured on a CPU.
        full_precision: Modules (or lists of them) that compute in float32 under bf16 and fp16 too:
            the first layers, because 8 bits are too few for the images, and the last ones, whose
            rounding shows. They cost little.
        safe_in_bf16: Whether bf16 with the shipped weights was measured, on CPUs, to stay within
            2 grey levels of float32 everywhere and 0.3 on average.
        adapt: Published state dict to our keys, for `models convert`; strict about every key.
        parts: What the paper is known for, each by a function that puts something neutral into its
            place in a network that is thrown away afterwards: `benchmarks.alive` sees by it
            whether the weights need the part.
        training_facts: Options to what else a trained network's card must state, because it
            depends on the machine that trained it: label to text.
        limits: Known limits, one sentence each, for the model card.
    """

    title: str
    paper: str
    build: Callable[..., nn.Module]
    options: tuple[Option, ...] = ()
    stages: tuple[Stage, ...] = ()
    role: Literal["fuser", "register"] = "fuser"
    input_range: tuple[float, float] = (0.0, 1.0)
    tone: Literal["clip", "stretch"] = "clip"
    multiple_of: int = 1
    padding: Literal["reflect", "replicate"] = "reflect"
    min_size: int = 1
    tiling: Literal["exact", "passes", "approximate", "never"] = "never"
    halo: Callable[[Mapping[str, Any]], int] = no_context
    stride: int = 1
    memory: int = 4096
    full_precision: tuple[str, ...] = ()
    safe_in_bf16: bool = False
    adapt: Callable[[Mapping[str, Any]], dict[str, Tensor]] | None = None
    parts: Mapping[str, Callable[[Any], None]] = attribute(default_factory=dict)
    training_facts: Callable[[Mapping[str, Any]], dict[str, str]] = no_facts
    limits: tuple[str, ...] = ()

    def defaults(self) -> dict[str, Any]:
        """Return every option with its default value."""
        return {option.name: option.default for option in self.options}

    def network(self, options: Mapping[str, Any]) -> nn.Module:
        """Build the untrained network, leaving out the options that are not its own."""
        others = {option.name for option in self.options if option.recipe or option.output}
        return self.build(**{k: v for k, v in options.items() if k not in others})

    def toned(self, options: Mapping[str, Any]) -> ModelSpec:
        """Return the same with the tone that these options ask for, where they do."""
        return replace(self, tone=options.get(TONE.name, self.tone))


def names() -> tuple[str, ...]:
    """Return the command-line names of all networks, sorted, without importing any."""
    files = Path(__file__).parent.glob("[!_]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


def fusers() -> tuple[str, ...]:
    """Return the names that `fuse --model` offers: all but those that end in `-register`."""
    return tuple(name for name in names() if not name.endswith("-register"))


def check(name: str, known: tuple[str, ...] | None = None) -> str:
    """Return `name` when it is a network.

    Raises:
        UsageError: Unknown name; the hint holds the nearest one.
    """
    known = known or names()
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        f"there is no model '{name}'",
        code="model.unknown",
        facts=[f"available: {', '.join(known)}"],
        hint=f"did you mean '{near[0]}'?" if near else "see fusecli models list",
    )


def find(name: str) -> ModelSpec:
    """Import one network file and return its description.

    Raises:
        UsageError: Unknown name.
    """
    module = importlib.import_module(f"{__name__}.{check(name).replace('-', '_')}")
    spec: ModelSpec = module.SPEC
    return spec


def parse_options(spec: ModelSpec, assignments: Mapping[str, str]) -> dict[str, Any]:
    """Return all options of a network, with `NAME=VALUE` texts in place of the defaults.

    Raises:
        UsageError: Unknown name, a value of the wrong type, or one that is not among the choices.
    """
    known = {option.name: option for option in spec.options}
    values = spec.defaults()
    for name, text in assignments.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"{spec.title} has no option '{name}'",
                code="usage.set",
                facts=[f"{o.name} = {o.default}: {o.meaning}" for o in spec.options][:10],
                hint=f"did you mean --set {near[0]}={text}?" if near else None,
            )
        values[name] = _parse(known[name], text)
    return values


def _parse(option: Option, text: str) -> bool | int | float | str:
    kind = type(option.default)
    try:
        if kind is bool:
            value: Any = {"true": True, "on": True, "1": True,
                          "false": False, "off": False, "0": False}[text.lower()]  # fmt: skip
        else:
            value = kind(text)
    except (KeyError, ValueError):
        raise UsageError(
            f"--set {option.name}={text}: not a value of type {kind.__name__}",
            code="usage.set",
            facts=[option.meaning],
        ) from None
    if option.choices and value not in option.choices:
        allowed = ", ".join(str(choice) for choice in option.choices)
        raise UsageError(
            f"--set {option.name}={text}: must be one of {allowed}",
            code="usage.set",
            facts=[option.meaning],
        )
    return value
