"""`fusecli models`: list, show, verify, convert."""

import hashlib
import json

import pytest
import torch

from fusecli import checkpoint, cli, models
from fusecli.model_cards import count_macs, count_parameters
from fusecli.models import reconet_u_register


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Return a folder with trained weights of a small ReCoNet, its manifest and card."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    spec = models.find("reconet")
    options = spec.defaults() | {"variant": "v1", "width": 4}
    file = folder / "reconet.safetensors"
    checkpoint.save(file, checkpoint.untrained(spec, options), model="reconet", options=options)
    entry = {"name": "reconet", "model": "reconet", "file": file.name, "licence": "research use",
             "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "options": options,
             "bytes": file.stat().st_size, "card": "reconet.md"}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"weights": [entry]}))
    (folder / "reconet.md").write_text("scores: excellent")
    monkeypatch.setenv("FUSECLI_WEIGHTS", str(folder))
    return folder


def run(capsys, *arguments):
    code = cli.run(["models", *arguments])
    return code, capsys.readouterr().out


def test_list(shelf, capsys):
    code, out = run(capsys, "list")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split()[:2] == ["name", "parameters"]
    assert [line.split()[0] for line in lines[1:]] == list(models.names())
    code, out = run(capsys, "list", "--json")
    row = {row["name"]: row for row in json.loads(out)["models"]}["reconet"]
    assert (row["parameters"], row["weights"], row["licence"]) == (
        481,
        True,
        "research use",
    )  # narrow ones lie on the shelf
    assert row["tiling"] == "exact"


def test_show(shelf, capsys):
    code, out = run(capsys, "show", "reconet")
    assert code == 0
    for text in ("ECCV 2022", "7,527", "6.40 G", "ssim 0.28", "scores: excellent", "research use"):
        assert text in out
    code, out = run(capsys, "show", "reconet", "--json")
    document = json.loads(out)
    assert document["weights"][0]["options"]["width"] == 4
    assert {option["name"] for option in document["options"]} >= {"variant", "loops"}


def test_show_of_an_unknown_network(capsys):
    assert cli.run(["models", "show", "reconnet"]) == 2
    assert "reconet" in capsys.readouterr().err


@pytest.mark.parametrize("name", models.fusers())
def test_every_card_can_be_shown(name, capsys):
    code, out = run(capsys, "show", name)
    spec = models.find(name)
    assert code == 0
    assert spec.title in out
    assert all(option.name in out for option in spec.options)


def test_counts_follow_the_options():
    spec = models.find("reconet")
    later = spec.defaults() | {"variant": "v1"}
    assert count_parameters(spec, later) == 3589
    assert count_macs(spec, later) / 1e9 == pytest.approx(3.218, abs=1e-3)


def test_verify(shelf, capsys):
    code, out = run(capsys, "verify")
    assert code == 0
    assert out.startswith("reconet  ok")
    file = shelf / "reconet.safetensors"
    file.write_bytes(file.read_bytes() + b"x")
    code, out = run(capsys, "verify", "reconet", "--json")
    document = json.loads(out)
    assert (code, document["error"]["code"]) == (6, "weights.verify")
    assert document["error"]["details"]["weights"][0]["code"] == "weights.checksum"
    file.unlink()
    assert run(capsys, "verify")[0] == 6
    assert run(capsys, "verify", "unheard-of")[0] == 2


@pytest.mark.golden
def test_convert(reference_dir, tmp_path, capsys):
    source = str(reference_dir / "checkpoints" / "reconet_v0_params.pth")
    target = tmp_path / "v0.safetensors"
    code, out = run(capsys, "convert", source, str(target), "-m", "reconet")
    assert (code, out.strip()) == (0, str(target))
    published = torch.load(source, weights_only=True)
    loaded = checkpoint.load(None, str(target)).network
    assert torch.equal(loaded.attn_ir.weight, published["att_a_conv.weight"])
    assert run(capsys, "convert", source, str(target), "-m", "reconet")[0] == 2  # it exists
    wrong = run(capsys, "convert", source, str(tmp_path / "w.safetensors"), "-m", "mfeif")
    assert wrong[0] == 5
    assert run(capsys, "convert", source, str(tmp_path / "w.pth"), "-m", "reconet")[0] == 2
    assert not (tmp_path / "w.safetensors").exists()


def test_convert_says_what_the_shapes_told(tmp_path, capsys):
    ours = reconet_u_register.build("none").state_dict()
    published = {theirs: ours[key] for theirs, key in reconet_u_register.LAYOUT.items()}
    torch.save({"state_dict": published}, tmp_path / "u.ckpt")
    words = ["models", "convert", str(tmp_path / "u.ckpt"), str(tmp_path / "u.safetensors")]
    words += ["-m", "reconet-u-register"]
    assert cli.run([*words]) == 0
    assert capsys.readouterr().err == "recognised by its shapes: aux=none\n"
    assert cli.run([*words, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"]["aux"] == "none"
    assert cli.run([*words, "--overwrite", "--set", "aux=none"]) == 0
    assert capsys.readouterr().err == ""
