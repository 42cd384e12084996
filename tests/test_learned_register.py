"""A trained register as `--method reconet`: directions, refusals, weights that do not fit."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from outlines import SIZE, moved, scene
from runs import contents, fuse

import fusecli
from fusecli import checkpoint, conversion, images, models
from fusecli.cli import run
from fusecli.errors import InputError, MissingError, UsageError
from fusecli.fields import translation
from fusecli.registration import dense, learned
from fusecli.registration.estimate import estimate
from fusecli.registration.learned import LearnedRegister
from fusecli.registration.transform import load

SHIFT = (6.0, -4.0)


def save(path: Path, model: str = "reconet-u-register", moves: str = "", push: float = 0.0) -> str:
    """Write weights that move everything by the same amount along x."""
    spec = models.find(model)
    given = {"moves": moves} if moves else {}
    given |= {"register": "u"} if model == "reconet-plus" else {}
    options = models.parse_options(spec, given)
    network = checkpoint.untrained(spec, options)
    register = network if spec.role == "register" else network.register
    with torch.no_grad():
        register.trunk.flow.weight.zero_()
        register.trunk.flow.bias.copy_(torch.tensor([push, 0.0]))
    checkpoint.save(path, network, model=model, options=options)
    return str(path)


@pytest.fixture
def weights(tmp_path) -> str:
    return save(tmp_path / "u.safetensors", moves="either")


@pytest.fixture
def folders(tmp_path) -> tuple[str, str, Path]:
    """Two pairs with one known misalignment."""
    for number in range(2):
        visible, infrared = scene(20 + number)
        views = {"vis": visible, "ir": moved(infrared, translation(*SHIFT))}
        for side, image in views.items():
            pixels = image.clip(0, 255).astype(np.uint8)
            data = images.encode(pixels, format="png")
            images.write_atomic(str(tmp_path / side / f"{number}.png"), data)
    return str(tmp_path / "ir"), str(tmp_path / "vis"), tmp_path / "out"


def register(*arguments: object) -> int:
    return run(["register", *map(str, arguments), "--progress", "none", "-q"])


def error_of(capsys, *arguments: object) -> dict:
    capsys.readouterr()
    run([*map(str, arguments), "--json", "-q"])
    return json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("moves", ["visible", "either"])
@pytest.mark.parametrize("fixed", ["vis", "ir"])
def test_either_side_can_move_whatever_the_register_has_learnt(monkeypatch, fixed, moves):
    asked = []

    def finds_shifts(moving: torch.Tensor, still: torch.Tensor) -> torch.Tensor:
        asked.append(moving)
        window = cv2.createHanningWindow(SIZE[::-1], cv2.CV_32F)
        pair = (image[0, 0].clone().numpy() for image in (still, moving))
        shift, _ = cv2.phaseCorrelate(*pair, window)
        return torch.tensor(shift).float().view(1, 2, 1, 1).expand(1, 2, *SIZE)

    monkeypatch.setattr(learned, "_loaded", lambda *_: (finds_shifts, moves == "visible"))
    visible = scene(3)[0] / 255
    there = moved(visible, translation(*SHIFT))
    field = LearnedRegister("", "", fixed)(visible, there)
    assert field is not None
    assert np.abs(field - SHIFT).max() < 0.2
    # one that only moves the visible image is handed it as the moving one
    moves_fixed = moves == "visible" and fixed == "vis"
    assert np.array_equal(asked[0][0, 0].numpy(), visible if moves_fixed else there)


def test_the_field_grows_with_images_larger_than_the_register_looks_at(weights):
    large = np.zeros((2 * learned.SIDE // 4, 2 * learned.SIDE), np.float32)
    pushed = save(Path(weights).with_name("p.safetensors"), moves="either", push=1.0)
    found = LearnedRegister.of(pushed)
    assert found is not None
    field = found(large, large)
    assert field is not None
    assert field.shape == (*large.shape, 2)
    assert np.abs(field[64:-64, 64:-64] - (2, 0)).max() < 0.01


def test_a_field_without_a_way_back_is_none(monkeypatch):
    fold = torch.zeros(1, 2, *SIZE)
    fold[:, 0] = 12 * torch.sin(torch.arange(float(SIZE[1])) / 3)
    monkeypatch.setattr(learned, "_loaded", lambda *_: (lambda moving, still: fold, True))
    visible, infrared = (image / 255 for image in scene(3))
    assert LearnedRegister("", "", "vis")(visible, infrared) is None


def test_the_field_is_kept_where_the_judge_confirms_it():
    visible, infrared = scene(5)
    rows, columns = np.indices(SIZE, np.float32)
    bent = np.dstack((columns + 3 * np.sin(rows / 30), rows)).astype(np.float32)
    there = cv2.remap(infrared, bent, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def good(fixed: np.ndarray, view: np.ndarray) -> np.ndarray:
        return dense.bend(fixed, view, np.eye(3), max(SIZE))

    def bad(fixed: np.ndarray, view: np.ndarray) -> np.ndarray:
        return np.full((*SIZE, 2), 5, np.float32)

    def nothing(fixed: np.ndarray, view: np.ndarray) -> None:
        return None

    found = estimate(visible, there, method="reconet", learned=good)
    assert (found.method, found.shape, found.accepted) == ("reconet", "dense", True)
    blocks = estimate(visible, there)
    for useless in (bad, nothing):
        found = estimate(visible, there, method="reconet", learned=useless)
        assert (found.method, found.field, found.accepted) == ("ngf", None, True)
        both = estimate(visible, there, learned=useless)
        assert (both.method, both.shape) == ("ngf", "dense")
        assert np.array_equal(both.field, blocks.field)


def test_a_folder_is_registered_with_weights(folders, weights):
    ir, vis, out = folders
    pushed = save(Path(weights).with_name("p.safetensors"), moves="either", push=2.0)
    command = (ir, vis, "-o", out, "--method", "reconet", "--weights", pushed)
    assert register(*command, "--transform", "dense", "--jobs", "2", "--preview", "field") == 0
    found = load(out / "transforms/0.json")
    assert (found.method, found.kind, found.accepted) == ("reconet", "dense", True)
    assert found.score is not None
    assert found.score["confidence"] > 3.5
    # the matrix finds the shift; what these weights add was insisted on
    assert found.field is not None
    assert np.median(found.field, (0, 1)) == pytest.approx((SHIFT[0] + 2, SHIFT[1]), abs=0.3)
    again = out.with_name("again")
    assert register(ir, vis, "-o", again, *command[4:], "--transform", "dense", "--jobs", "1") == 0
    assert contents(again / "transforms") == contents(out / "transforms")
    moved_by_file = out.with_name("applied")
    assert register(ir, vis, "-o", moved_by_file, "--apply", out / "transforms") == 0
    assert (moved_by_file / "0.png").read_bytes() == (out / "0.png").read_bytes()


def test_other_weights_are_noticed_by_resume(folders, weights, capsys):
    ir, vis, out = folders
    command = (ir, vis, "-o", out, "--method", "reconet", "--weights", weights)
    assert register(*command) == 0

    def done() -> int:
        capsys.readouterr()
        run(["register", *map(str, command), "--resume", "--dry-run", "--json", "-q"])
        return json.loads(capsys.readouterr().out)["counts"]["skipped"]

    assert done() == 2
    save(Path(weights), moves="either", push=1.0)
    learned._loaded.cache_clear()
    assert done() == 0


def test_fuse_and_python_take_the_same_weights(folders, weights, tmp_path):
    ir, vis, out = folders
    plain = tmp_path / "ngf"
    assert fuse(ir, vis, "-o", out, "--align", "reconet", "--align-weights", weights) == 0
    assert fuse(ir, vis, "-o", plain, "--align", "ngf") == 0
    one, other = (cv2.imread(str(folder / "0.png")).astype(int) for folder in (out, plain))
    assert np.abs(one - other).mean() < 2
    found = fusecli.register(f"{ir}/0.png", f"{vis}/0.png", method="reconet", weights=weights)
    assert found.transform.accepted
    with pytest.raises(MissingError) as caught:
        fusecli.register(f"{ir}/0.png", f"{vis}/0.png", method="reconet")
    assert caught.value.code == "weights.missing"


def test_weights_that_are_not_there_or_do_not_fit(folders, weights, tmp_path, capsys):
    ir, vis, out = folders
    base = ("register", ir, vis, "-o", out)
    missing = error_of(capsys, *base, "--method", "reconet")
    assert (missing["code"], "fusecli train" in missing["hint"]) == ("weights.missing", True)
    fused = error_of(capsys, "fuse", ir, vis, "-o", out, "--align", "reconet")
    assert "--align-weights" in fused["message"]
    off = error_of(capsys, "fuse", ir, vis, "-o", out, "--align-weights", weights)
    assert off["code"] == "usage.align"
    unused = error_of(capsys, *base, "--method", "ecc", "--weights", weights)
    assert unused["code"] == "register.weights"
    applied = error_of(capsys, *base, "--apply", tmp_path, "--weights", weights)
    assert applied["code"] == "usage.register"
    for wrong in ("random", "duet"):
        refused = error_of(capsys, *base, "--method", "reconet", "--weights", wrong)
        assert refused["code"] == "register.weights"
    assert not out.exists()


def test_the_whole_reconet_lends_its_register(tmp_path):
    path = save(tmp_path / "plus.safetensors", "reconet-plus", push=1.0)
    image = np.zeros(SIZE, np.float32)
    still_visible, still_infrared = (LearnedRegister.of(path, side) for side in ("vis", "ir"))
    assert still_visible is not None
    assert still_infrared is not None
    back, forth = still_visible(image, image), still_infrared(image, image)
    assert back is not None
    assert forth is not None
    inner = np.s_[20:-20, 20:-20]  # the register pushes to the right: it moves the visible image
    assert np.abs(forth[inner] - (1, 0)).max() < 0.01
    assert np.abs(back[inner] + (1, 0)).max() < 0.01


def test_a_worker_with_other_weights_refuses_to_work(weights):
    sent = LearnedRegister.of(weights)
    arrived = pickle.loads(pickle.dumps(sent))
    assert arrived == sent
    learned._loaded.cache_clear()
    save(Path(weights), moves="either", push=1.0)
    with pytest.raises(MissingError) as caught:
        arrived(np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32))
    assert caught.value.code == "weights.differ"


def test_published_registers_can_be_used(reference_dir, tmp_path):
    for kind in ("m", "u"):
        model = f"reconet-{kind}-register"
        source = reference_dir / f"checkpoints/reconet_{kind}-register.ckpt"
        network, options = conversion.convert([source], model, {"aux": "none"})
        checkpoint.save(tmp_path / f"{kind}.safetensors", network, model=model, options=options)
        found = LearnedRegister.of(str(tmp_path / f"{kind}.safetensors"))
        visible, infrared = scene(7)
        registered = estimate(visible / 255, infrared / 255, method="reconet", learned=found)
        assert registered.accepted


def test_api_refuses_a_bad_pair_as_the_command_does(weights):
    flat = np.full(SIZE, 7, np.uint8)
    with pytest.raises(InputError, match="flat") as caught:
        fusecli.register(flat, flat, method="reconet", weights=weights)
    assert caught.value.code == "register.rejected"
    with pytest.raises(UsageError):
        fusecli.register(flat, flat, method="ngf", weights=weights)
