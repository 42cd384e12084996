"""What will be written is decided, and refused where it must be, before any work."""

from pathlib import Path

import numpy as np
import pytest

from fusecli.errors import FusecliError
from fusecli.pairs import Pair
from fusecli.run.plan import Target, plan


def pair(key: str, vis: str | None = None) -> Pair:
    return Pair(key, f"ir/{key}.png", vis or f"vis/{key}.png")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{key}", "seq/a.png"),
        ("{stem}_{model}", "a_mfeif.png"),
        ("{parent}/{index:04d}", "seq/0003.png"),
        ("fixed-{key}", "fixed-seq/a.png"),
    ],
)
def test_names(tmp_path: Path, template: str, expected: str) -> None:
    target = Target(str(tmp_path), template, model="mfeif")
    assert target.job(pair("seq/a"), 3).out == str(tmp_path / expected)


@pytest.mark.parametrize(
    "template",
    ["{nothing}", "{key.upper}", "{key[0]}", "{key!r}", "{0}", "{", "{index:{key}}", "{key:d}"],
)
def test_templates_evaluate_nothing(tmp_path: Path, template: str) -> None:
    with pytest.raises(FusecliError) as caught:
        Target(str(tmp_path), template)
    assert caught.value.code == "usage.name"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("key", ["../a", "/etc/a", "a/../../b"])
def test_no_key_leads_outside(tmp_path: Path, key: str) -> None:
    with pytest.raises(FusecliError) as caught:
        plan([pair(key)], Target(str(tmp_path / "out")))
    assert caught.value.code == "out.outside"


@pytest.mark.parametrize(
    ("vis", "options", "suffix"),
    [
        ("a.png", {}, ".png"),
        ("a.TIF", {}, ".tif"),
        ("a.jpg", {}, ".png"),
        ("a.jpg", {"dtype": "float32"}, ".tif"),
        ("a.pfm", {}, ".tif"),
        ("a.pfm", {"dtype": "uint8"}, ".png"),
        ("a.png", {"format": "jpeg"}, ".jpg"),
        ("a.png", {"format": "npy", "dtype": "float32"}, ".npy"),
    ],
)
def test_suffix_follows_reference_and_type(tmp_path, vis, options, suffix) -> None:
    assert Path(Target(str(tmp_path), **options).job(pair("a", vis), 0).out).suffix == suffix


@pytest.mark.parametrize(("dtype", "suffix"), [(np.float32, ".tif"), (np.uint8, ".png")])
def test_suffix_of_arrays_follows_their_type(tmp_path, dtype, suffix) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 4), dtype))
    assert Path(Target(str(tmp_path)).job(pair("a", str(path)), 0).out).suffix == suffix


@pytest.mark.parametrize(
    ("out", "options"),
    [
        ("o", {"format": "jpeg", "dtype": "uint16"}),
        ("o", {"format": "png", "dtype": "float32"}),
        ("o.png", {"format": "tiff"}),
        ("o.jpg", {"dtype": "uint16"}),
        ("-", {}),
    ],
)
def test_impossible_formats_are_refused(out: str, options: dict[str, str]) -> None:
    with pytest.raises(FusecliError) as caught:
        Target(out, **options)
    assert caught.value.code == "out.format"


def test_existing_results_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"precious")
    with pytest.raises(FusecliError, match="1 of the results exists already") as caught:
        plan([pair("a"), pair("b")], Target(str(tmp_path)))
    assert caught.value.code == "out.exists"
    assert "--overwrite" in (caught.value.hint or "")
    assert len(plan([pair("a"), pair("b")], Target(str(tmp_path)), overwrite=True)) == 2


def test_collisions_empty_runs_and_single_files(tmp_path: Path) -> None:
    with pytest.raises(FusecliError) as caught:
        plan([pair("x/a"), pair("y/a")], Target(str(tmp_path), "{stem}"))
    assert caught.value.code == "out.collision"
    with pytest.raises(FusecliError) as caught:
        plan([], Target(str(tmp_path)))
    assert caught.value.code == "pair.none"
    with pytest.raises(FusecliError) as caught:
        plan([pair("a"), pair("b")], Target(str(tmp_path / "one.png")))
    assert caught.value.code == "out.file"
    assert [
        j.key for j in plan([pair("a"), pair("b")], Target(str(tmp_path / "one.png")), limit=1)
    ] == ["a"]


def test_out_that_is_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(FusecliError) as caught:
        plan([pair("a")], Target(str(path)))
    assert caught.value.code == "out.not-a-folder"
