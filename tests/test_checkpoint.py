"""Weights files: where they are looked up, what is refused, what a file says about itself."""

import hashlib
import importlib.util
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fusecli import checkpoint
from fusecli.conversion import convert
from fusecli.errors import InputError, MissingError, UsageError
from fusecli.fusion.network import Fuser
from fusecli.models import find, reconet_u_register

SMALL = {"variant": "v1", "width": 4, "loops": 1}
SPEC = find("reconet")


def small(seed=0, **more):
    return checkpoint.untrained(SPEC, SPEC.defaults() | SMALL | more, seed)


def save(path, network=None, **more):
    options = SPEC.defaults() | SMALL
    checkpoint.save(path, network or small(3), model="reconet", options=options, **more)
    return path


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Return a folder of weights with a manifest, the first that is asked."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    file = save(folder / "reconet.safetensors")
    entry = {
        "name": "reconet",
        "model": "reconet",
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "bytes": file.stat().st_size,
        "licence": "research use",
        "options": SPEC.defaults() | SMALL,
        "card": None,
    }
    (folder / "manifest.json").write_text(json.dumps({"weights": [entry]}))
    monkeypatch.setenv("FUSECLI_WEIGHTS", str(folder))
    return folder


def same(network, other):
    ours, theirs = network.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_the_networks_own_weights_with_their_options(shelf):
    loaded = checkpoint.load("reconet")
    assert same(loaded.network, small(3))
    assert not loaded.network.training
    assert loaded.options["width"] == 4
    assert (loaded.label, loaded.licence) == ("reconet", "research use")
    file = shelf / "reconet.safetensors"
    assert loaded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_needs_no_repetition_of_model_and_options(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    loaded = checkpoint.load(None, str(save(run / "best.safetensors", small(8))))
    assert (loaded.model, loaded.label) == ("reconet", "run/best")
    assert same(loaded.network, small(8))


def test_options_of_the_user_replace_the_stored_ones(shelf):
    loaded = checkpoint.load("reconet", None, {"loops": 2})
    assert loaded.options["loops"] == 2
    assert loaded.network.loops == 2
    assert loaded.options["width"] == 4


def test_weights_say_whether_their_output_is_stretched(tmp_path):
    def fused(loaded):
        generator = torch.Generator().manual_seed(1)
        ir, vis = torch.rand(2, 1, 1, 24, 20, generator=generator)
        run = Fuser(loaded.network, loaded.spec, loaded.options, device=torch.device("cpu"))
        return run(ir, vis)

    published = checkpoint.load("smfnet", "random")
    stretched = fused(published)
    assert (stretched.min(), stretched.max()) == (0, 1)
    path = tmp_path / "natural.safetensors"
    options = published.options | {"tone": "clip"}
    checkpoint.save(path, published.network, model="smfnet", options=options)
    natural = checkpoint.load(None, str(path))
    assert 0 < fused(natural).min() < fused(natural).max() < 1
    again = checkpoint.load(None, str(path), {"tone": "stretch"})
    assert torch.equal(fused(again), stretched)


def test_random_weights_depend_on_the_seed_alone():
    one, again, other = (checkpoint.load("reconet", "random", SMALL, seed=s) for s in (1, 1, 2))
    assert same(one.network, again.network)
    assert not same(one.network, other.network)
    assert (one.label, one.sha256) == ("random", None)


def test_folders_are_asked_in_order(shelf, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    (cache / "weights").mkdir(parents=True)
    save(cache / "weights" / "reconet.safetensors", small(9))
    save(cache / "weights" / "mine.safetensors", small(9))
    monkeypatch.setenv("FUSECLI_CACHE", str(cache))
    assert checkpoint.locate("reconet").folder == shelf
    assert checkpoint.locate("reconet", "mine").folder == cache / "weights"


def test_missing_weights_say_what_to_do(shelf):
    with pytest.raises(MissingError, match="'nothing'") as error:
        checkpoint.load("reconet", "nothing")
    assert (error.value.code, error.value.exit_code) == ("weights.missing", 5)
    assert "known: reconet" in error.value.facts[0]
    assert "fusecli train" in error.value.hint
    (shelf / "reconet.safetensors").unlink()
    with pytest.raises(MissingError, match="not there") as error:
        checkpoint.load("reconet")
    assert error.value.code == "weights.missing"


def test_a_changed_byte_is_noticed(shelf):
    file = shelf / "reconet.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(MissingError) as error:
        checkpoint.load("reconet")
    assert error.value.code == "weights.checksum"
    assert len(error.value.facts) == 2


def test_a_broken_manifest_is_named(shelf):
    (shelf / "manifest.json").write_text("{")
    with pytest.raises(MissingError, match="manifest.json"):
        checkpoint.load("reconet")


def tensors():
    return {key: value.clone() for key, value in small().state_dict().items()}


@pytest.mark.parametrize(
    ("change", "code", "fact"),
    [
        (lambda t: t.pop("attn_ir.weight"), "weights.layout", "missing: attn_ir.weight"),
        (lambda t: t.update(extra=torch.ones(1)), "weights.layout", "unknown: extra"),
        (
            lambda t: t.update({"merge.conv.bias": torch.ones(2)}),
            "weights.layout",
            "merge.conv.bias: (2,) instead of (1,)",
        ),
        (
            lambda t: t["merge.conv.bias"].fill_(float("nan")),
            "weights.nonfinite",
            "merge.conv.bias",
        ),
    ],
)
def test_every_key_shape_and_value_is_checked(tmp_path, change, code, fact):
    content = tensors()
    change(content)
    save_file(content, tmp_path / "w.safetensors")
    with pytest.raises(MissingError) as error:
        checkpoint.load("reconet", str(tmp_path / "w.safetensors"), SMALL)
    assert error.value.code == code
    assert fact in error.value.facts


def test_weights_of_another_network(tmp_path):
    file = save(tmp_path / "w.safetensors")
    with pytest.raises(MissingError, match="of reconet, not of mfeif") as error:
        checkpoint.load("mfeif", str(file))
    assert error.value.hint == "use -m reconet"


def test_truncated_file(tmp_path):
    file = save(tmp_path / "w.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(MissingError) as error:
        checkpoint.load("reconet", str(file))
    assert error.value.code == "weights.layout"


def test_a_pickle_is_sent_to_convert(tmp_path):
    torch.save(tensors(), tmp_path / "w.pth")
    with pytest.raises(MissingError, match="not a safetensors file") as error:
        checkpoint.load("reconet", str(tmp_path / "w.pth"))
    assert "fusecli models convert" in error.value.hint


def test_half_precision_except_where_it_would_overflow(tmp_path):
    network = small(3)
    with torch.no_grad():
        network.merge.conv.bias.fill_(1e6)
    file = save(tmp_path / "w.safetensors", network, half=True)
    stored = load_file(file)
    assert stored["merge.conv.bias"].dtype == torch.float32
    assert stored["attn_ir.weight"].dtype == torch.float16
    loaded = checkpoint.load(None, str(file)).network
    assert loaded.attn_ir.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.attn_ir.weight, network.attn_ir.weight, rtol=1e-3, atol=1e-4)
    assert loaded.merge.conv.bias.item() == 1e6


def test_metadata_holds_model_options_and_extras(tmp_path):
    file = save(tmp_path / "w.safetensors", extra={"step": 7})
    about = checkpoint.read_metadata(file)
    assert about["model"] == "reconet"
    assert about["options"]["variant"] == "v1"
    assert about["step"] == 7


# --- published checkpoints ---------------------------------------------------------------------


class Harmful:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys):
    for name, dump in (
        ("bare.pth", lambda file: pickle.dump(Harmful(), file)),
        ("nested.pth", lambda file: torch.save({"a": Harmful()}, file)),
    ):
        with (tmp_path / name).open("wb") as file:
            dump(file)
        with pytest.raises(InputError) as error:
            convert([tmp_path / name], "reconet", {})
        assert error.value.code == "weights.pickle"
    assert "must never run" not in capsys.readouterr().out


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("text.pth", "list.pth", "absent.pth"):
        with pytest.raises(InputError):
            convert([tmp_path / name], "reconet", {})


def test_a_foreign_dictionary_does_not_fit(tmp_path):
    torch.save({"some.weight": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(MissingError) as error:
        convert([tmp_path / "w.pth"], "reconet", {})
    assert error.value.code == "weights.layout"


def test_a_key_in_two_files_is_refused(tmp_path):
    for name in ("a.pth", "b.pth"):
        torch.save({"some.weight": torch.ones(1)}, tmp_path / name)
    with pytest.raises(MissingError, match="repeats"):
        convert([tmp_path / "a.pth", tmp_path / "b.pth"], "reconet", {})


def test_unknown_option(tmp_path):
    with pytest.raises(UsageError, match="widht"):
        convert([tmp_path / "a.pth"], "reconet", {"widht": "3"})


def published_register(folder: Path) -> Path:
    """Write a checkpoint of a register without gradient inputs, as its authors store one."""
    ours = reconet_u_register.build("none").state_dict()
    torch.save(
        {"state_dict": {theirs: ours[key] for theirs, key in reconet_u_register.LAYOUT.items()}},
        folder / "u.ckpt",
    )
    return folder / "u.ckpt"


def test_shapes_tell_an_option(tmp_path):
    source = published_register(tmp_path)
    _, options = convert([source], "reconet-u-register", {"integrate_steps": "3"})
    assert (options["aux"], options["integrate_steps"]) == ("none", 3)


def test_an_option_that_was_given_is_not_replaced(tmp_path):
    with pytest.raises(MissingError) as error:
        convert([published_register(tmp_path)], "reconet-u-register", {"aux": "canny"})
    assert error.value.code == "weights.layout"


@pytest.mark.golden
@pytest.mark.parametrize(
    ("model", "file", "told"),
    [
        ("reconet", "reconet_v0_params.pth", {}),
        ("mfeif", "mfeif_default.pth", {"temperature": 0.0}),
        ("reconet-m-register", "reconet_m-register.ckpt", {"aux": "none"}),
        ("reconet-u-register", "reconet_u-register.ckpt", {"aux": "none"}),
    ],
)
def test_published_checkpoints_convert(reference_dir, tmp_path, model, file, told):
    network, options = convert([reference_dir / "checkpoints" / file], model, {})
    assert options == find(model).defaults() | told
    checkpoint.save(tmp_path / "w.safetensors", network, model=model, options=options)
    assert same(checkpoint.load(None, str(tmp_path / "w.safetensors")).network, network)


def test_shipping_a_run(tmp_path, monkeypatch):
    path = Path(__file__).parents[1] / "training" / "ship.py"
    module = importlib.util.module_from_spec(
        spec := importlib.util.spec_from_file_location("ship", path)
    )
    spec.loader.exec_module(module)
    run, shelf = tmp_path / "run", tmp_path / "shelf"
    run.mkdir()
    shelf.mkdir()
    save(run / "best.safetensors", small(4))
    (run / "card.md").write_text("a card")
    module.ship(run / "best.safetensors", None, shelf)
    module.ship(run / "best.safetensors", "other", shelf)
    monkeypatch.setenv("FUSECLI_WEIGHTS", str(shelf))
    assert [entry.name for entry in checkpoint.read_manifest(shelf)] == ["other", "reconet"]
    loaded = checkpoint.load("reconet")
    torch.testing.assert_close(
        loaded.network.attn_ir.weight, small(4).attn_ir.weight, rtol=1e-3, atol=1e-4
    )
    assert (shelf / "reconet.md").read_text() == "a card"
    assert load_file(shelf / "reconet.safetensors")["attn_ir.weight"].dtype == torch.float16
