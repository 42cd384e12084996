"""SMFNet's published file: five state dicts, dead layers included, to our keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fusecli.models._layout import batch_norm, convolution, joined, translate

if TYPE_CHECKING:
    from torch import Tensor


def _transformer(theirs: str, ours: str, feed: str = "ffn_leff") -> dict[str, str]:
    table = {f"{theirs}attn.temperature": f"{ours}attention.temperature"}
    for norm in ("norm1", "norm2"):
        table |= convolution(f"{theirs}{norm}.body", f"{ours}{norm}")
    for name, own in (("qkv", "qkv"), ("qkv_dwconv", "spatial"), ("project_out", "output")):
        table |= convolution(f"{theirs}attn.{name}", f"{ours}attention.{own}", bias=False)
    for name, own in (("linear1", "enter"), ("dwconv", "spatial"), ("linear2", "leave")):
        table |= convolution(f"{theirs}{feed}.{name}.0", f"{ours}feed.{own}")
    return table


def _dense_transformer(theirs: str, ours: str) -> dict[str, str]:
    table = {f"{theirs}attn.scale": f"{ours}attention.temperature"}
    for norm in ("norm1", "norm2"):
        table |= convolution(f"{theirs}{norm}.body", f"{ours}{norm}")
    for name, own in (("qkv1", "qkv"), ("qkv2", "spatial"), ("proj", "output")):
        table |= convolution(f"{theirs}attn.{name}", f"{ours}attention.{own}", bias=False)
    for name, own in (("project_in", "enter"), ("project_out", "leave")):
        table |= convolution(f"{theirs}mlp.{name}", f"{ours}feed.{own}", bias=False)
    return table


def _gradient(theirs: str, ours: str) -> dict[str, str]:
    table = convolution(f"{theirs}.conv.conv", f"{ours}.enter")
    inner = f"{theirs}.GRDB"
    table |= convolution(f"{inner}.dense.conv1.conv", f"{ours}.dense1")
    table |= convolution(f"{inner}.dense.conv2.conv", f"{ours}.dense2")
    table |= convolution(f"{inner}.convdown.conv", f"{ours}.gather")
    table |= convolution(f"{inner}.sobelconv.convx", f"{ours}.sobel_x", bias=False)
    table |= convolution(f"{inner}.sobelconv.convy", f"{ours}.sobel_y", bias=False)
    return table | convolution(f"{inner}.convup.conv", f"{ours}.edges")


def _coupling(theirs: str, ours: str, parts: Mapping[str, str]) -> dict[str, str]:
    table = convolution(f"{theirs}.shffleconv", f"{ours}.mix")
    for name, own in parts.items():
        for layer in (0, 3, 5):
            inner = f"{theirs}.{name}.bottleneckBlock.{layer}"
            table |= convolution(inner, f"{ours}.{own}.{layer}", bias=False)
    return table


def _encoder() -> dict[str, str]:
    table = convolution("patch_embed.proj", "embed", bias=False)
    table |= _transformer("encoder_level1.0.", "shallow.")
    table |= _gradient("GRDB_module", "gradient")
    table |= {"detailFeature.TCA.temperature": "cross.temperature"}
    for name, own in (("q", "q"), ("q_dwconv", "q_spatial"), ("kv", "kv"),
                      ("kv_dwconv", "kv_spatial"), ("project_out", "output")):  # fmt: skip
        table |= convolution(f"detailFeature.TCA.{name}", f"cross.{own}")
    parts = {"theta_phi": "phi", "theta_rho": "rho", "theta_eta": "eta"}
    table |= _coupling("detailFeature.layer", "coupling", parts)
    table |= convolution("baseFeature.conv_first", "base.0")
    for layer in (0, 1):
        theirs, ours = f"baseFeature.layers.{layer}", f"base.{layer + 1}"
        for pair in (0, 1):
            group = f"{theirs}.residual_group.{pair}"
            table |= _transformer(f"{group}.0.", f"{ours}.blocks.{2 * pair}.")
            table |= _dense_transformer(f"{group}.1.", f"{ours}.blocks.{2 * pair + 1}.")
        for index in (0, 2, 4):
            table |= convolution(f"{theirs}.conv.{index}", f"{ours}.bottleneck.{index}")
    return table


def _graph() -> dict[str, str]:
    table = convolution("C_cls", "output")
    table |= convolution("graph.graph.C_pa.1", "to_ir", bias=False)
    table |= convolution("graph.graph.C_pa.0", "to_vis", bias=False)
    # their "rgb" branch is fed the infrared image
    for theirs, ours, merge in (("rgb", "ir", 0), ("dep", "vis", 1)):
        for index in range(3):
            node = f"graph.graph.ppm_{theirs}.convs.{index}"
            table |= convolution(f"{node}.0", f"{ours}.nodes.{index}.conv", bias=False)
            table |= batch_norm(f"{node}.1", f"{ours}.nodes.{index}.bn")
        inner = f"graph.graph.graph_{theirs}"
        table |= {f"{inner}.gamma": f"{ours}.gamma"}
        table |= convolution(f"{inner}.C_wgt", f"{ours}.edge", bias=False)
        table |= convolution(f"{inner}.ConvGRU.ConvGates", f"{ours}.gates")
        table |= convolution(f"{inner}.ConvGRU.Conv_ct", f"{ours}.candidate")
        table |= convolution(f"graph.C_cat.{merge}.0", f"{ours}.merge.conv", bias=False)
        table |= batch_norm(f"graph.C_cat.{merge}.1", f"{ours}.merge.bn")
    return table


def _decoder() -> dict[str, str]:
    table = _transformer("encoder_level1.0.", "0.")
    for theirs, ours in ((0, 1), (2, 3), (4, 5)):
        table |= convolution(f"output.{theirs}", f"{ours}", bias=False)
    return table


def _detail_fusion() -> dict[str, str]:
    table = _gradient("GRDB", "gradient")
    parts = {"r": "scale1", "y": "shift1", "p": "scale2", "f": "shift2"}
    for index in (0, 1):
        table |= _coupling(f"net.{index}", f"couplings.{index}", parts)
    return table


def _dead() -> frozenset[str]:
    """Return the keys of the layers that no image passes through, as they are flattened here."""
    encoder = convolution("baseFeature.reduce_channel", "", bias=False)
    encoder |= convolution("baseFeature.norm", "")
    for index in (0, 2, 4):
        encoder |= convolution(f"baseFeature.conv_after_body.{index}", "")
    graph = convolution("graph.C_cls", "")
    for branch in (0, 1):
        for index in (1, 3):
            graph |= convolution(f"graph.graph.C_ca.{branch}.{index}", "", bias=False)
    for index in (2, 3, 4, 5):
        graph |= convolution(f"graph.C_cat.{index}.0", "", bias=False)
        graph |= batch_norm(f"graph.C_cat.{index}.1", "")
    return frozenset(
        {f"DIDF_Encoder.{key}" for key in encoder}
        | {f"GraphModel.{key}" for key in graph}
        | {"BaseFuseLayer.reduce_channel.weight"}
    )


LAYOUT = {
    f"{part}.{theirs}": f"{module}.{ours}"
    for part, module, table in (
        ("DIDF_Encoder", "encoder", _encoder()),
        ("DIDF_Decoder", "decoder", _decoder()),
        ("GraphModel", "reasoning", _graph()),
        ("BaseFuseLayer", "base_fusion", _transformer("", "", feed="mlp")),
        ("DetailFuseLayer", "detail_fusion", _detail_fusion()),
    )
    for theirs, ours in table.items()
}
DEAD = _dead()


def adapt(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the published dictionary of five state dicts under our keys, without dead layers.

    Takes keys with or without the `module.` of a data-parallel run.

    Raises:
        MissingError: `weights.layout`, when keys are missing or unknown.
    """
    alive = {key: value for key, value in joined(state, ".").items() if key not in DEAD}
    return translate(alive, LAYOUT, title="SMFNet")
