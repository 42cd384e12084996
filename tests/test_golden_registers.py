"""ReCoNet's registers against the authors' numbers, and the way from images to a field."""

from pathlib import Path

import numpy as np
import pytest
import rules
import torch
import torch.nn.functional as F

from fusecli import models
from fusecli.errors import MissingError, UsageError
from fusecli.models import (
    Sample,
    _register,
    reconet,
    reconet_m_register,
    reconet_plus,
    reconet_u_register,
)
from fusecli.ops.resample import resample
from fusecli.training.crops import CropPlan, Crops

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-4
REGISTERS = {"m": reconet_m_register, "u": reconet_u_register}
each_register = pytest.mark.parametrize("kind", ["m", "u"])


def arrays(file: Path) -> dict[str, torch.Tensor]:
    with np.load(file) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive}


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def official(kind: str, aux: str) -> dict[str, torch.Tensor]:
    """Return a rule-filled state dict under the authors' keys."""
    module = REGISTERS[kind]
    return rules.fill(rules.shapes_of(module.build(aux).state_dict(), module.LAYOUT))


def filled(kind: str, aux: str = "sobel", steps: int = 7) -> _register.Register:
    """Return a register with rule-filled weights, and a field of a few pixels."""
    register = REGISTERS[kind].build(aux, steps)
    register.load_state_dict(REGISTERS[kind].adapt(official(kind, aux)))
    return register.eval()


def soft_pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    coarse = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(4))
    images = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    moving, fixed = images.clamp(0, 1).chunk(2)
    return moving, fixed


@each_register
def test_velocity_with_rule_filled_weights(kind: str) -> None:
    golden = arrays(GOLDEN / f"rule_reconet_register_{kind}4_48x64.npz")
    ir, vis = golden["ir"], golden["vi"]
    with torch.no_grad():
        velocity = filled(kind).trunk(torch.cat([vis, ir, vis * ir, vis - ir], 1))
    assert difference(velocity.permute(0, 2, 3, 1), golden["out"]) < TOLERANCE


@pytest.mark.golden
@each_register
@pytest.mark.parametrize("pair", ["disk", "crop"])
def test_velocity_field_and_moved_image_of_the_published_weights(
    kind: str, pair: str, reference_dir: Path
) -> None:
    file = reference_dir / f"checkpoints/reconet_{kind}-register.ckpt"
    checkpoint = torch.load(file, weights_only=True, map_location="cpu")
    register = REGISTERS[kind].build(aux="none")
    register.load_state_dict(REGISTERS[kind].adapt(checkpoint))
    golden = arrays(reference_dir / "golden/reconet_registers_32x32.npz")
    moving, fixed = golden[f"{pair}_moving"], golden[f"{pair}_fixed"]
    with torch.no_grad():
        velocity = register.trunk(register.look(moving, fixed))
        field = register(moving, fixed)
        moved = resample(moving, field)
    expected = {part: golden[f"{kind}_{pair}_{part}"] for part in ("velocity", "flow", "moved")}
    assert difference(velocity.permute(0, 2, 3, 1), expected["velocity"]) < TOLERANCE
    assert difference(field.permute(0, 2, 3, 1), expected["flow"]) < TOLERANCE
    assert difference(moved, expected["moved"]) < TOLERANCE
    assert difference(moved, moving) > 0.05


@each_register
def test_no_integration_takes_the_velocity_for_the_field(kind: str) -> None:
    moving, fixed = soft_pair(32, 48)
    register = filled(kind, steps=0)
    with torch.no_grad():
        velocity = register.trunk(register.look(moving, fixed))
        assert torch.equal(register(moving, fixed), velocity)
        assert difference(filled(kind)(moving, fixed), velocity) > TOLERANCE
    with pytest.raises(UsageError, match="-1 steps"):
        REGISTERS[kind].build(integrate_steps=-1)


@each_register
def test_other_sizes_are_extended_by_replication_and_cropped(kind: str) -> None:
    moving, fixed = soft_pair(37, 53)
    register = filled(kind)
    right, bottom = -53 % register.multiple, -37 % register.multiple
    with torch.no_grad():
        field = register(moving, fixed)
        whole = register(
            *(F.pad(image, (0, right, 0, bottom), mode="replicate") for image in (moving, fixed))
        )
    assert whole.shape[-2] % 16 == 0 or kind == "m"
    assert torch.equal(field, whole[..., :37, :53])


def test_a_new_register_moves_nothing() -> None:
    moving, fixed = soft_pair(32, 32)
    for module in REGISTERS.values():
        with torch.no_grad():
            assert module.build()(moving, fixed).abs().max() < 0.01


def test_half_precision_does_not_reach_the_integration() -> None:
    moving, fixed = soft_pair(32, 32)
    register = filled("u")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert register(moving, fixed).dtype == torch.float32


def test_edges_of_a_ramp_and_a_step() -> None:
    ramp = torch.arange(12.0).expand(1, 1, 9, 12) / 12
    inner = (..., slice(3, -3), slice(3, -3))
    assert torch.allclose(_register.sobel_edges(ramp)[inner], torch.tensor(8 / 12))
    step = (torch.arange(12.0) - 5).clamp(0, 2).expand(1, 1, 9, 12) / 2  # centred on column 6
    soft, thin = _register.sobel_edges(step), _register.canny_edges(step)
    assert (soft[0, 0, 4] > 0.01).sum() > 4
    assert thin.nonzero()[:, 3].unique().tolist() == [6]
    image, _ = soft_pair(32, 40)
    soft, thin = _register.sobel_edges(image), _register.canny_edges(image)
    assert torch.equal(thin[thin > 0], soft[thin > 0])
    assert 0.02 < (thin > 0).float().mean() < 0.3
    assert thin.amax() == soft.amax()


def sample_with(truth: torch.Tensor, units: str) -> Sample:
    image = torch.zeros(truth.shape[0], 1, *truth.shape[-2:])
    return Sample(image, image, image, image, truth, {"field_units": units})


def test_field_terms_by_hand() -> None:
    truth = torch.zeros(1, 2, 11, 21)
    field = truth.clone()
    field[:, 0] = 3.0  # to the right, of a width of 21
    moved = torch.zeros(1, 1, 11, 21)
    terms = _register.field_terms(field, moved, moved, sample_with(truth, "pixels"))
    assert (terms["field"], terms["smooth"], terms["edges"]) == (9.0, 0.0, 0.0)
    terms = _register.field_terms(field, moved, moved, sample_with(truth, "normalised"))
    assert terms["field"].item() == pytest.approx((3 * 2 / 20) ** 2)
    field = torch.zeros(1, 2, 11, 21)
    field[:, 1] = 0.5 * torch.arange(11.0).view(1, 11, 1)  # dy grows downwards
    terms = _register.field_terms(field, moved, moved, sample_with(field, "pixels"))
    assert (terms["field"], terms["smooth"]) == (0.0, 0.5)
    terms = _register.field_terms(field, moved, moved, sample_with(field, "normalised"))
    assert terms["smooth"].item() == pytest.approx(0.5 * 2 / 10)
    unmoved = sample_with(field, "pixels")
    unmoved = Sample(unmoved.ir, unmoved.vis, unmoved.ir, unmoved.vis, None, unmoved.options)
    assert _register.field_terms(truth, moved, moved, unmoved)["field"] == 0


def test_either_side_is_displaced_in_turn() -> None:
    ir, vis, ir_true, vis_true = (torch.full((4, 1, 2, 2), value) for value in (1.0, 2.0, 3.0, 4.0))
    sample = Sample(ir, vis, ir_true, vis_true, None, {"moves": "either"})
    first = [image[:, 0, 0, 0].tolist() for image in _register.roles(sample)]
    assert first == [[2, 3, 2, 3], [1, 4, 1, 4], [4, 1, 4, 1]]
    sample = Sample(ir, vis, ir_true, vis_true, None, {"moves": "visible"})
    assert _register.roles(sample) == (vis, ir, vis_true)


@pytest.mark.parametrize("misalign", ["mild:mixed", "shift:8"])
def test_the_true_field_serves_both_roles(misalign: str) -> None:
    picture = (255 * soft_pair(96, 128)[0][0, 0].numpy()).astype(np.uint8)
    pictures = [(picture, picture)]  # seen alike by both cameras, either lies on the other
    plan = CropPlan(seed=1, crop=64, misalign=misalign)
    crops = Crops(pictures, plan, {"moves": "either"})  # type: ignore[arg-type]
    sample = crops.batch(range(4))
    assert sample.field is not None
    moving, fixed, undisplaced = _register.roles(sample)
    brought = resample(moving, sample.field, border="replicate")
    inner = np.s_[..., 16:-16, 16:-16]
    assert difference(undisplaced[inner], fixed[inner]) == 0
    assert (brought - fixed)[inner].abs().mean() < 0.3 * (moving - fixed)[inner].abs().mean()


def test_joint_weights_are_the_papers() -> None:
    alone, joint = models.find("reconet-plus").stages
    assert (alone.misalign, joint.misalign) == ("none", "reconet-normal")
    used = {term: weight for term, weight in joint.weights.items() if weight}
    assert used == pytest.approx({"ssim": 0.168, "pixel": 0.432, "field": 0.312, "smooth": 0.088})
    assert sum(joint.weights.values()) == pytest.approx(1)


def test_plus_fuses_the_moved_visible_image() -> None:
    ir, vis = soft_pair(30, 33)
    network = reconet_plus.ReCoNetPlus("u", variant="v1").eval()
    network.register.load_state_dict(filled("u").state_dict())
    with torch.no_grad():
        field = network.align(ir, vis)
        assert field.abs().max() > 0.1
        assert torch.equal(field, network.register(vis, ir))
        assert torch.equal(network(ir, vis), network.fuser(ir, resample(vis, field)))
        assert difference(network(ir, vis), network.fuser(ir, vis)) > TOLERANCE


@each_register
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_joint_training_checkpoint_fills_both_halves(kind: str, norm: str) -> None:
    fuser = reconet.Fuser("v1", norm=norm)
    table = reconet.V1_NORM_LAYOUT if norm == "batch" else reconet.V1_LAYOUT
    theirs = rules.fill(rules.shapes_of(fuser.state_dict(), table)) | official(kind, "sobel")
    checkpoint = {"epoch": 9, "state_dict": theirs}
    spec = models.find("reconet-plus")
    options = models.parse_options(spec, {"register": kind, "variant": "v1", "norm": norm})
    network = spec.network(options)
    assert spec.adapt is not None
    network.load_state_dict(spec.adapt(checkpoint))
    assert torch.equal(
        network.get_parameter("fuser.pdc.1.conv.bias"),
        theirs["fuser.decoder.conv_d.1.group.0.bias"],
    )
    register = REGISTERS[kind].build()
    register.load_state_dict(REGISTERS[kind].adapt(checkpoint))
    fuser.load_state_dict(reconet.adapt(checkpoint))


@each_register
def test_register_layouts_are_read_strictly(kind: str) -> None:
    theirs = official(kind, "none")
    dropped = next(
        key for key in theirs if key.endswith("conv_s.bias") or key.endswith("flow.bias")
    )
    with pytest.raises(MissingError, match="1 of .* keys missing, 1 unknown") as caught:
        state = {key: value for key, value in theirs.items() if key != dropped}
        REGISTERS[kind].adapt({"state_dict": state | {"register.more": torch.zeros(1)}})
    assert caught.value.facts == (f"missing: {dropped}", "unknown: register.more")


def test_the_recipe_teaches_a_shift() -> None:
    torch.manual_seed(0)
    spec = models.find("reconet-u-register")
    register = spec.network(models.parse_options(spec, {"aux": "none", "integrate_steps": "2"}))
    (stage,) = spec.stages
    optimizer = torch.optim.Adam(register.parameters(), lr=stage.lr)
    scene, _ = soft_pair(32, 34)
    ir, vis = scene[..., 2:], scene[..., :-2]  # the visible image must be read 2 px to the right
    truth = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 32, 32)
    sample = Sample(ir, vis, ir, ir, truth, {"field_units": "normalised", "moves": "visible"})
    for _ in range(25):
        terms = stage.loss(register, sample)
        total = sum(stage.weights[name] * term for name, term in terms.items())
        assert isinstance(total, torch.Tensor)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    with torch.no_grad():
        field = register(vis, ir)
        assert (field - truth).norm(dim=1).mean() < 1.0
        inner = (..., slice(4, -4), slice(4, -4))
        before, after = (vis - ir)[inner].abs(), (resample(vis, field) - ir)[inner].abs()
        assert after.mean() < 0.5 * before.mean()
