"""`fusecli doctor`: sound where all is well, and each common fault found and explained."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fusecli import checkpoint, diagnosis, models, packages
from fusecli.cli import run
from fusecli.commands.doctor import STYLES

ROOT = Path(__file__).parents[1]


def by_name(findings) -> dict[str, diagnosis.Finding]:
    return {finding.name: finding for finding in findings}


def fusecli(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*variables.pop("first_on_path", "").split(), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "fusecli", *arguments],
        capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | variables,
    )  # fmt: skip


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with untrained but properly listed weights, asked before any other."""
    folder = tmp_path / "weights"
    spec = models.find("duet")
    network = checkpoint.untrained(spec, spec.defaults())
    file = folder / "duet.safetensors"
    folder.mkdir()
    checkpoint.save(str(file), network, model="duet", options=spec.defaults())
    digest = checkpoint.verify(checkpoint.Entry("duet", "duet", file.name, folder=folder))
    entry = {"name": "duet", "model": "duet", "file": file.name, "sha256": digest,
             "bytes": file.stat().st_size, "licence": "research use"}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"weights": [entry]}))
    monkeypatch.setenv("FUSECLI_WEIGHTS", str(folder))
    return folder


def test_all_is_well(weights, capsys):
    assert run(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "fusecli/doctor/1"
    assert document["ok"] is True
    areas = {finding["area"] for finding in document["findings"]}
    assert areas == {examine.__name__ for examine in diagnosis.EXAMINATIONS}
    assert {finding["state"] for finding in document["findings"]} <= {"ok", "note", "warning"}
    found = {(finding["area"], finding["name"]): finding for finding in document["findings"]}
    assert found["fuse", "duet"]["value"].startswith("61x47 pixels")
    assert found["weights", "duet"]["state"] == "ok"
    assert found["codecs", "tiff"]["value"] == "writes and reads uint8, uint16, float32"


def test_text_shows_every_finding_with_its_hint(monkeypatch, capsys):
    shown = diagnosis.Diagnosis(
        tuple(
            diagnosis.Finding("area", f"name-{state}", state, f"value of {state}", f"mend {state}")
            for state in STYLES
        )
    )
    monkeypatch.setattr(diagnosis, "diagnose", lambda: shown)
    assert run(["doctor"]) == 5
    out = capsys.readouterr().out
    for state in STYLES:
        assert re.search(rf"name-{state}\s+{state}\s+value of {state}\s+mend {state}", out)
    assert "2 of 5 findings need mending" in out


@pytest.mark.parametrize(
    ("states", "code"),
    [(["ok", "note", "warning"], 0), (["ok", "broken"], 6), (["broken", "missing", "ok"], 5)],
)
def test_exit_codes(states, code):
    findings = tuple(diagnosis.Finding("a", "b", state, "c") for state in states)
    assert diagnosis.Diagnosis(findings).exit_code == code


def test_package_tables_match_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def distributions(requirements: list[str]) -> set[str]:
        return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}

    optional = project["optional-dependencies"]
    assert set(packages.RUNTIME) == distributions(project["dependencies"])
    assert set(packages.EXTRAS) == set(optional) - {"test", "dev"}
    for extra, wanted in packages.EXTRAS.items():
        assert set(wanted) == distributions(optional[extra])


def test_two_opencv_wheels(monkeypatch):
    installed = {"opencv-python": "5.0", "opencv-contrib-python-headless": "4.13"}
    monkeypatch.setattr(packages, "version", installed.get)
    found = by_name(diagnosis.opencv())["wheels"]
    assert found.state == "warning"
    assert found.hint.startswith("pip uninstall -y opencv-python opencv-contrib-python-headless &&")


def test_a_missing_libgl_names_both_remedies(tmp_path):
    """The real thing: a cv2 that fails to load as it does on a server without libGL."""
    stub = tmp_path / "cv2"
    stub.mkdir()
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    (stub / "__init__.py").write_text(f"raise ImportError({reason!r})\n")
    done = fusecli("doctor", "--json", first_on_path=str(tmp_path))
    assert done.returncode == 5
    found = {f["area"]: f for f in json.loads(done.stdout)["findings"] if f["state"] == "missing"}
    assert "libGL.so.1" in found["opencv"]["value"]
    assert "apt-get install libgl1" in found["opencv"]["hint"]
    assert "opencv-python-headless" in found["opencv"]["hint"]
    for folder in ("ir", "vis"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    sides = (str(tmp_path / "ir"), str(tmp_path / "vis"))
    done = fusecli("fuse", *sides, "-o", str(tmp_path / "out"), first_on_path=str(tmp_path))
    assert done.returncode == 5
    assert "apt-get install libgl1" in done.stderr
    assert "opencv-python-headless" in done.stderr


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ImportError("No module named 'onnx'", name="onnx"), "pip install 'fusecli[onnx]'"),
        (ImportError("broken", name="torch.nn"), "pip install --force-reinstall torch"),
        (ImportError("cannot import name 'x'", name="fusecli.images"), None),
    ],
)
def test_failed_imports_say_what_to_install(error, hint):
    explained = packages.explain(error)
    assert (explained and explained.hint) == hint
    assert explained is None or explained.exit_code == 5


def test_missing_extras_come_with_their_command(monkeypatch):
    installed = {"onnx": "1", "onnxscript": "1", "matplotlib": "3"}
    monkeypatch.setattr(packages, "version", installed.get)
    found = by_name(diagnosis.extras())
    assert found["report"].state == "ok"
    assert found["onnx"].state == "note"
    assert found["onnx"].value == "not installed: onnxruntime"
    assert found["onnx"].hint == "pip install 'fusecli[onnx]'"


def test_damaged_weights_are_broken(weights):
    file = weights / "duet.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    found = by_name(diagnosis.weights())["duet"]
    assert found.state == "broken"
    assert found.details["code"] == "weights.checksum"
    assert found.hint


def test_listed_weights_that_are_gone_are_missing(weights):
    (weights / "duet.safetensors").unlink()
    assert by_name(diagnosis.weights())["duet"].state == "missing"


def test_a_weights_folder_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSECLI_WEIGHTS", str(tmp_path / "nowhere"))
    found = [finding for finding in diagnosis.weights() if finding.state == "warning"]
    assert [finding.hint for finding in found] == ["correct FUSECLI_WEIGHTS or unset it"]


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setenv("FUSECLI_DEVICE", "cuda:77")
    found = by_name(diagnosis.devices())
    assert found["cpu"].state == "ok"
    assert found["--device cuda:77"].state == "missing"


def test_a_codec_that_changes_values(monkeypatch):
    from fusecli import images

    honest = images.encode
    monkeypatch.setattr(images, "encode", lambda pixels, **more: honest(pixels // 2, **more))
    found = by_name(diagnosis.codecs())
    assert found["png"].state == found["jpeg"].state == "broken"
    assert found["pgm"].state == "ok"


def test_a_fuse_that_fails_says_why(weights, monkeypatch):
    monkeypatch.setenv("FUSECLI_PROGRESS", "loud")
    (found,) = diagnosis.fuse()
    assert found.state == "broken"
    assert found.value.startswith("exit code 2: ")
    assert "loud" in found.value


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FUSECLI_CACHE", str(tmp_path / "file" / "cache"))
    (found,) = diagnosis.cache()
    assert found.state == "warning"
    monkeypatch.setenv("FUSECLI_CACHE", str(tmp_path / "cache"))
    (found,) = diagnosis.cache()
    assert found.state == "ok"


def test_an_examination_that_crashes_is_a_finding(monkeypatch):
    def nerves():
        yield diagnosis.Finding("nerves", "left", "ok", "fine")
        raise RuntimeError("boom")

    monkeypatch.setattr(diagnosis, "EXAMINATIONS", (nerves,))
    found = by_name(diagnosis.diagnose().findings)
    assert found["left"].state == "ok"
    assert found["not examined"].value == "RuntimeError: boom"
    assert diagnosis.diagnose().exit_code == 6
