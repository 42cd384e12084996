"""Damaged and hostile documents: weights, transforms, records and configuration.

Each is one that fusecli wrote or could have written, changed in a few places, or any value that its
notation allows. What comes out is a result or an error with a code, never a bug's exit code 1.
"""

import json
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runs import draw_pairs
from test_fuzz_readers import changed, edits, fuzzed

from fusecli import checkpoint, models
from fusecli.cli import run
from fusecli.errors import FusecliError, InputError, MissingError
from fusecli.registration import transform
from fusecli.run import record as manifest

DEEP = "[" * 100_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
few = settings(fuzzed, max_examples=max(1, fuzzed.max_examples // 4))  # where each one takes long
Changes = list[tuple[str, float, bytes]]


@cache
def weights() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "w.safetensors")
        network = checkpoint.untrained(models.find("reconet"), {})
        checkpoint.save(path, network, model="reconet", options={})
        return path.read_bytes()


def load_weights(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "w.safetensors")
        path.write_bytes(data)
        try:
            loaded = checkpoint.load("reconet", str(path))
        except FusecliError as error:
            assert error.code in ("weights.layout", "weights.nonfinite", "usage.set")
            return
        for parameter in loaded.network.parameters():
            assert parameter.isfinite().all()


@few
@given(changes=edits())
def test_damaged_weights(changes: Changes) -> None:
    load_weights(changed(weights(), changes))


@few
@given(st.dictionaries(st.sampled_from(["model", "options", "licence", "x"]), VALUES) | VALUES)
@example({"model": "reconet", "options": []})
@example({"model": ["reconet"], "options": {"loops": "many"}})
def test_weights_that_say_anything_about_themselves(about: object) -> None:
    relabelled(json.dumps(about))


def test_weights_with_a_label_without_bottom() -> None:
    relabelled(DEEP)


def relabelled(text: str) -> None:
    """Load weights whose own description is a text."""
    data = weights()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = {"fusecli": text}
    start = json.dumps(header).encode()
    load_weights(struct.pack("<Q", len(start)) + start + data[8 + length :])


@fuzzed
@given(VALUES | st.fixed_dictionaries({"weights": VALUES}))
@example({"weights": [{"name": [], "model": "", "file": ""}]})
def test_any_list_of_weights(document: object) -> None:
    listed(json.dumps(document))


def test_a_list_of_weights_without_bottom() -> None:
    listed(DEEP)


def listed(text: str) -> None:
    with TemporaryDirectory() as folder:
        Path(folder, "manifest.json").write_text(text)
        try:
            checkpoint.read_manifest(Path(folder))
        except MissingError as error:
            assert error.code == "weights.manifest"


STORED = {
    "schema": transform.SCHEMA, "key": "a", "type": "affine", "fixed_size": [24, 32],
    "moving_size": [24, 32], "matrix": np.eye(3).tolist(), "accepted": True, "field": "a.npz",
}  # fmt: skip


def load_transform(text: bytes, field: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.json")
        path.write_bytes(text)
        path.with_suffix(".npz").write_bytes(field)
        try:
            found = transform.load(path)
        except InputError as error:
            assert error.code in ("register.schema", "register.matrix", "register.folds")
            return
        if found.fixed_size == (24, 32):  # others are refused when an image of that size comes
            displacement = found.displacement()
            assert displacement.isfinite().all()
            assert displacement.shape == (1, 2, 24, 32)


@cache
def field() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.npz")
        np.savez_compressed(path, field=np.full((24, 32, 2), 0.5, np.float32))
        return path.read_bytes()


@fuzzed
@given(edits(), edits(), st.sampled_from(["text", "field", "both"]))
def test_damaged_transforms(in_text: Changes, in_field: Changes, what: str) -> None:
    text = json.dumps(STORED).encode()
    load_transform(
        changed(text, in_text) if what != "field" else text,
        changed(field(), in_field) if what != "text" else field(),
    )


@fuzzed
@given(st.sampled_from(sorted(STORED)), VALUES)
@example("fixed_size", [1 << 40, 1 << 40])
@example("fixed_size", [True, True])
@example("parameters", ["a"])
def test_transforms_with_any_value(name: str, value: object) -> None:
    document = STORED | {name: value}
    load_transform(json.dumps(document).encode(), field())
    load_transform(json.dumps(document | {"field": None}).encode(), field())


def test_a_field_that_inflates_without_end() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.npz")
        np.savez_compressed(path, field=np.zeros((24, 32, 2), np.float32), more=np.zeros(1 << 24))
        Path(folder, "a.json").write_text(json.dumps(STORED))
        with pytest.raises(InputError, match="larger than the images"):
            transform.load(Path(folder, "a.json"))


def test_a_transform_without_bottom() -> None:
    load_transform(DEEP.encode(), field())


@fuzzed
@given(edits(), st.lists(VALUES, max_size=3))
def test_any_record_of_a_run(changes: Changes, more: list[object]) -> None:
    done = {"key": "a", "out": "a.png", "status": "done", "fp": "0", "in": {"ir": [1, 2.0]}}
    lines = [{"schema": manifest.SCHEMA, "started": "now"}, done, *more, done]
    recorded(changed("\n".join(map(json.dumps, lines)).encode(), changes))


def test_a_line_without_bottom_is_no_line() -> None:
    done = json.dumps({"key": "a", "out": "a.png", "status": "done"})
    assert recorded(f"{DEEP}\n{done}\n".encode()) == {"a.png"}


def recorded(data: bytes) -> set[str]:
    """Return the results that a record knows."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "manifest.jsonl")
        path.write_bytes(data)
        known = manifest.read(path)
    assert all(isinstance(name, str) for name in known)
    return set(known)


CONFIGURATION = b"""[common]
jobs = 2
progress = "none"
[fuse]
model = "reconet"
tone = "clip"
ir-range = "0:200"
limit = 1
[folders]
cache = "cache"
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> tuple[str, str]:
    return draw_pairs(tmp_path_factory.mktemp("documents"), 1)


@few
@given(changes=edits())
def test_damaged_configuration(pairs, changes: Changes) -> None:
    configured(pairs, changed(CONFIGURATION, changes))


def test_a_configuration_without_bottom(pairs) -> None:
    configured(pairs, b"a = " + DEEP.encode())


def configured(pairs: tuple[str, str], data: bytes) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("FUSECLI_CACHE", raising=False)
        Path("c.toml").write_bytes(data)
        code = run(["fuse", *pairs, "-o", "out", "--dry-run", "-q", "--config", "c.toml"])
        assert code in (0, 2)
        patch.delenv("FUSECLI_CACHE", raising=False)
