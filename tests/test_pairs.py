"""Which files pair, under which keys, and what is said when they do not."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from fusecli.errors import FusecliError, InputError, UsageError
from fusecli.pairs import Pair, find_files, find_pairs, mismatch
from fusecli.pairs.files import natural


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    """Make files whose content nothing here looks at."""
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def refused(*args, **options) -> FusecliError:
    with pytest.raises(FusecliError) as caught:
        find_pairs(*args, **options)
    return caught.value


def keys(*args, **options) -> list[str]:
    return [pair.key for pair in find_pairs(*args, **options).pairs]


def test_equal_keys_pair_whatever_the_suffix_and_its_case() -> None:
    touch("ir/b.TIF", "ir/a.png", "vis/a.JPeG", "vis/b.webp")
    found = find_pairs("ir", "vis")
    assert found.pairs == (
        Pair("a", str(Path("ir/a.png")), str(Path("vis/a.JPeG"))),
        Pair("b", str(Path("ir/b.TIF")), str(Path("vis/b.webp"))),
    )
    assert (found.unmatched_ir, found.unmatched_vis, found.ignored) == ((), (), 0)


def test_other_suffixes_are_counted_and_hidden_files_are_not() -> None:
    touch("ir/a.png", "ir/notes.txt", "ir/.a.b1c2d3e4.part", "ir/._a.png", "vis/a.png")
    touch("vis/Thumbs.db", "vis/.fusecli/b.png")
    found = find_pairs("ir", "vis", recursive=True)
    assert [pair.key for pair in found.pairs] == ["a"]
    assert found.ignored == 2


def test_sub_folders_become_part_of_the_key_only_when_asked_for() -> None:
    touch("ir/a.png", "ir/seq/a.png", "vis/a.png", "vis/seq/a.jpg")
    assert keys("ir", "vis") == ["a"]
    assert keys("ir", "vis", recursive=True) == ["a", "seq/a"]


def test_a_trailing_separator_and_an_absolute_path_change_nothing() -> None:
    touch("ir/seq/a.png", "vis/seq/a.png")
    assert keys("ir/", str(Path("vis").absolute()) + os.sep, recursive=True) == ["seq/a"]


def test_the_working_directory_is_a_folder_like_any_other() -> None:
    touch("a.png", "../elsewhere/a.png")
    assert find_pairs(".", "../elsewhere").pairs == (
        Pair("a", f".{os.sep}a.png", f"../elsewhere{os.sep}a.png"),
    )


def test_keys_are_composed_unicode() -> None:
    composed, decomposed = "stra\u00dfe e\u0301".replace("e\u0301", "\u00e9"), "stra\u00dfe e\u0301"
    touch(f"ir/{decomposed}.png", f"vis/{composed}.png")
    (pair,) = find_pairs("ir", "vis").pairs
    assert pair.key == composed == unicodedata.normalize("NFC", decomposed)
    assert Path(pair.ir).exists()
    assert Path(pair.vis).exists()


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege")
def test_a_link_that_leads_back_up_does_not_loop() -> None:
    touch("ir/seq/a.png", "vis/seq/a.png")
    Path("ir/seq/up").symlink_to(Path("ir").absolute())
    Path("vis/linked").symlink_to(Path("vis/seq").absolute())
    assert keys("ir", "vis", recursive=True, unpaired="skip") == ["seq/a"]
    assert find_files("vis", recursive=True).keys() == {"seq/a", "linked/a"}
    assert keys("ir/**/*.png", "vis/**/*.png", unpaired="skip") == ["seq/a"]


class TestGlobs:
    def test_keys_start_before_the_first_wildcard(self) -> None:
        touch("data/ir/s1/a.tif", "data/ir/s2/a.tif", "data/ir/s2/a.txt", "data/vis/s1/a.png")
        touch("data/vis/s2/a.png", "data/ir/a.tif", "data/vis/a.png")
        assert keys("data/ir/**/*.tif", "data/vis/**/*.png") == ["a", "s1/a", "s2/a"]
        assert keys("data/ir/s?/*", "data/vis/s[12]/*.png") == ["s1/a", "s2/a"]

    def test_a_wildcard_does_not_cross_a_separator(self) -> None:
        touch("ir/a.png", "ir/deep/b.png")
        assert find_files("ir/*.png").keys() == {"a"}
        assert find_files("ir/**").keys() == {"a", "deep/b"}
        assert find_files("*/*.png").keys() == {"ir/a"}

    def test_what_the_pattern_takes_in_but_nobody_reads_is_counted(self) -> None:
        touch("ir/a.png", "ir/a.txt", "ir/b.log", "vis/a.png")
        assert find_pairs("ir/a.*", "vis").ignored == 1

    def test_a_name_that_looks_like_a_pattern_is_a_name(self) -> None:
        touch("ir[1]/a.png", "vis[1]/a.png")
        assert keys("ir[1]", "vis[1]") == ["a"]

    def test_a_pattern_without_matches_is_an_empty_source(self) -> None:
        touch("ir/a.png", "vis/a.png")
        assert refused("ir/*.bmp", "vis").code == "pair.empty"
        assert refused("there/*.bmp", "vis").code == "read.missing"


class TestSingleFiles:
    def test_two_files_are_a_pair_named_by_the_reference(self) -> None:
        touch("hot.tif", "cam/colour.jpg")
        assert keys("hot.tif", "cam/colour.jpg") == ["colour"]
        assert keys("hot.tif", "cam/colour.jpg", reference="ir") == ["hot"]

    def test_a_file_named_outright_needs_no_known_suffix(self) -> None:
        touch("thermal.raw.dat", "b.png")
        assert keys("thermal.raw.dat", "b.png", reference="ir") == ["thermal.raw.dat"]

    def test_a_file_and_a_folder_pair_by_key(self) -> None:
        touch("a.png", "vis/a.jpg", "vis/b.jpg")
        assert keys("a.png", "vis", unpaired="skip") == ["a"]
        assert refused("a.png", "vis").code == "pair.unmatched"

    def test_the_same_file_twice_is_refused(self) -> None:
        touch("a.png")
        Path("link.png").hardlink_to("a.png")
        assert refused("a.png", "a.png").code == "pair.same"
        assert refused("a.png", "link.png").code == "pair.same"


class TestSuffixes:
    def test_endings_are_stripped_before_comparing(self) -> None:
        touch("ir/0001_ir.png", "ir/s_ir_x_ir.png", "vis/0001_rgb.png", "vis/s_ir_x_rgb.jpg")
        options = {"ir_suffix": "_ir", "vis_suffix": "_rgb"}
        assert keys("ir", "vis", **options) == ["0001", "s_ir_x"]

    def test_one_folder_can_hold_both_sides(self) -> None:
        touch("all/1_ir.png", "all/1_vis.png", "all/2_ir.png", "all/2_vis.png")
        options = {"ir_suffix": "_ir", "vis_suffix": "_vis"}
        found = find_pairs("all", "all", **options)
        assert [(p.key, Path(p.ir).name, Path(p.vis).name) for p in found.pairs] == [
            ("1", "1_ir.png", "1_vis.png"),
            ("2", "2_ir.png", "2_vis.png"),
        ]

    def test_the_side_without_suffix_gets_the_rest_of_one_folder(self) -> None:
        touch("all/1.png", "all/1_ir.png", "all/2.png", "all/2_ir.png")
        assert keys("all", "all", ir_suffix="_ir") == ["1", "2"]

    def test_a_stem_that_is_only_the_suffix_keeps_its_name(self) -> None:
        touch("ir/_ir.png", "vis/_ir.png")
        assert keys("ir", "vis", ir_suffix="_ir") == ["_ir"]

    def test_one_folder_for_both_sides_is_refused_without_a_suffix(self) -> None:
        touch("all/1.png", "all/2.png")
        error = refused("all", "all")
        assert error.code == "pair.same"
        assert error.message == "2 files are on both sides"
        assert "--ir-suffix" in (error.hint or "")

    def test_a_folder_and_its_parent_do_not_pair_a_file_with_itself(self) -> None:
        touch("data/vis/a.png", "data/vis/b.png")
        error = refused("data/*/a.png", "data/vis", pair_regex=r"(\w+)\.png", unpaired="skip")
        assert error.code == "pair.same"


class TestRegex:
    def test_the_first_group_or_the_one_named_key_is_the_key(self) -> None:
        touch("ir/FLIR_07_x.png", "ir/FLIR_12_y.png", "vis/cam-07.png", "vis/cam-12.jpg")
        assert keys("ir", "vis", pair_regex=r"(\d+)") == ["07", "12"]
        assert keys("ir", "vis", pair_regex=r"([A-Za-z]+)[-_](?P<key>\d+)") == ["07", "12"]

    def test_it_sees_the_relative_path(self) -> None:
        touch("ir/s1/x1.png", "ir/s2/x1.png", "vis/s1/y9.png", "vis/s2/y9.png")
        assert keys("ir", "vis", pair_regex=r"^(s\d)/", recursive=True) == ["s1", "s2"]

    def test_files_it_does_not_match_have_no_partner(self) -> None:
        touch("ir/1.png", "ir/mean.png", "vis/1.png")
        assert Path(refused("ir", "vis", pair_regex=r"(\d+)").facts[0]) == Path("ir/mean.png")
        assert keys("ir", "vis", pair_regex=r"(\d+)", unpaired="skip") == ["1"]

    @pytest.mark.parametrize("pattern", ["(", "[0-9]+", "(?P<key>"])
    def test_a_pattern_that_cannot_work_is_a_usage_error(self, pattern: str) -> None:
        touch("ir/1.png", "vis/1.png")
        error = refused("ir", "vis", pair_regex=pattern)
        assert isinstance(error, UsageError)
        assert error.code == "pair.regex"

    def test_a_key_cannot_leave_the_output_folder(self) -> None:
        touch("ir/a..b.png", "vis/a..b.png")
        error = refused("ir", "vis", pair_regex=r"(\.\.)")
        assert error.code == "pair.key"

    @pytest.mark.parametrize("options", [{"ir_suffix": "_ir"}, {"pair_by": "order"}])
    def test_it_excludes_the_other_ways_to_make_keys(self, options: dict[str, str]) -> None:
        touch("ir/1.png", "vis/1.png")
        assert refused("ir", "vis", pair_regex="(1)", **options).code == "pair.options"

    def test_several_groups_make_one_key(self) -> None:
        for side, kind in (("ir", "lwir"), ("vis", "visible")):
            touch(*(f"{side}/set00/V00{n}/{kind}/I0000{m}.png" for n in "01" for m in "12"))
        error = refused("ir", "vis", recursive=True)
        assert "4 of 4 match with --pair-regex '^(.+)/[^/]+/([^/.]+)'" in (error.hint or "")
        assert "KAIST" in (error.hint or "")
        pattern = error.details["suggestion"].split("'")[1]
        assert keys("ir", "vis", recursive=True, pair_regex=pattern) == [
            "set00/V000/I00001", "set00/V000/I00002", "set00/V001/I00001", "set00/V001/I00002",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("ir", "vis", "known"),
        [
            ("{}/infrared/0000{}i.jpg", "{}/visible/0000{}v.jpg", "RGBT234"),
            ("{}/infrared/00000{}.jpg", "{}/visible/00000{}.jpg", "LasHeR"),
            ("{}/ir/00000{}.jpg", "{}/rgb/00000{}.jpg", "VTUAV"),
        ],
    )
    def test_layouts_are_known_by_name(self, ir: str, vis: str, known: str) -> None:
        for sequence in ("afterrain", "car10"):
            for frame in range(3):
                touch("a/" + ir.format(sequence, frame), "b/" + vis.format(sequence, frame))
        error = refused("a", "b", recursive=True)
        assert known in (error.hint or "")
        pattern = error.details["suggestion"].split("'")[1]
        pairs = find_pairs("a", "b", recursive=True, pair_regex=pattern).pairs
        assert len(pairs) == 6
        for pair in pairs:
            assert Path(pair.ir).parts[1] == Path(pair.vis).parts[1]
            assert mismatch.last_number(pair.ir) == mismatch.last_number(pair.vis)

    def test_one_root_with_both_kinds_is_told_apart_by_patterns(self) -> None:
        touch("k/V0/lwir/1.png", "k/V0/visible/1.png", "k/V1/lwir/1.png", "k/V1/visible/1.png")
        hint = refused("k", "k", recursive=True).hint or ""
        assert "'k/**/lwir/*' 'k/**/visible/*'" in hint
        pattern = hint.split("'")[-2]
        assert keys("k/**/lwir/*", "k/**/visible/*", pair_regex=pattern) == ["V0/1", "V1/1"]

    def test_an_ambiguous_pattern_is_one_line_a_key(self) -> None:
        touch(*(f"{side}/cam1_{n:03d}.png" for side in ("ir", "vis") for n in range(12)))
        error = refused("ir", "vis", pair_regex=r"(\d+)")
        assert error.code == "pair.duplicate"
        assert error.message.startswith("1 key has")
        assert len(error.facts) == 1
        assert "and 10 more" in error.facts[0]
        assert "groups" in (error.hint or "")

    def test_a_good_hint_survives_a_wrong_try(self) -> None:
        touch(*(f"ir/{n}_ir.png" for n in range(6)), *(f"vis/{n}_vis.png" for n in range(6)))
        best = "--ir-suffix _ir --vis-suffix _vis"
        assert best in (refused("ir", "vis").hint or "")
        assert best in (refused("ir", "vis", ir_suffix="_raw").hint or "")
        touch(*(f"same/{n}_ir.png" for n in range(6)))
        assert "as they are" in (refused("ir", "same", ir_suffix="_ir").hint or "")


class TestOrder:
    def test_folders_that_do_not_hold_equally_many_are_refused(self) -> None:
        touch("ir/a/1.png", "ir/a/2.png", "ir/b/1.png", "vis/a/1.png", "vis/b/1.png")
        touch("vis/b/2.png")
        error = refused("ir", "vis", pair_by="order", recursive=True)
        assert error.code == "pair.order"
        assert "a/2.png" in error.message

    def test_numbers_that_both_sides_share_must_agree(self) -> None:
        touch(*(f"ir/i{n}.png" for n in (1, 2, 4, 5)), *(f"vis/v{n}.png" for n in (1, 3, 4, 5)))
        assert refused("ir", "vis", pair_by="order").code == "pair.order"

    def test_counters_of_their_own_are_fine(self) -> None:
        touch(*(f"ir/i{n}.png" for n in range(4)), *(f"vis/v{n}.png" for n in range(1, 5)))
        assert keys("ir", "vis", pair_by="order") == ["v1", "v2", "v3", "v4"]

    def test_numbers_sort_as_numbers(self) -> None:
        touch("ir/f2.png", "ir/f10.png", "ir/f1.png", "vis/c.png", "vis/a.png", "vis/b.png")
        found = find_pairs("ir", "vis", pair_by="order")
        assert [(Path(p.ir).stem, Path(p.vis).stem, p.key) for p in found.pairs] == [
            ("f1", "a", "a"),
            ("f2", "b", "b"),
            ("f10", "c", "c"),
        ]
        by_ir = find_pairs("ir", "vis", pair_by="order", reference="ir")
        assert [p.key for p in by_ir.pairs] == ["f1", "f2", "f10"]

    def test_counts_must_be_equal(self) -> None:
        touch("ir/1.png", "ir/2.png", "vis/1.png")
        error = refused("ir", "vis", pair_by="order")
        assert error.code == "pair.count"
        assert "2 infrared and 1 visible" in error.message

    def test_natural_order_is_total(self) -> None:
        names = ["10", "9", "a10", "a9b", "a9", "", "9a", "09"]
        assert sorted(names, key=natural) == ["", "9", "09", "9a", "10", "a9", "a9b", "a10"]


class TestRefusals:
    def test_files_without_partner_are_named_and_the_hint_can_be_pasted(self) -> None:
        touch(*(f"ir/{i:04}_ir.png" for i in range(30)))
        touch(*(f"vis/{i:04}_rgb.png" for i in range(30) if i not in (7, 12)))
        touch("ir/ok.png", "vis/ok.png")
        error = refused("ir", "vis")
        assert isinstance(error, InputError)
        assert error.exit_code == 2
        assert error.code == "pair.unmatched"
        assert error.message == "30 infrared and 28 visible images have no partner"
        assert 0 < len(error.facts) <= 10
        assert str(Path("ir/0000_ir.png")) in error.facts[0]
        assert "29 of 31 match with --ir-suffix _ir --vis-suffix _rgb" in (error.hint or "")
        assert "--unpaired skip" in (error.hint or "")
        assert error.details["unmatched"] == [30, 28]

    def test_one_side_only(self) -> None:
        touch("ir/1.png", "ir/2.png", "ir/3.png", "vis/3.png")
        error = refused("ir", "vis")
        assert error.message == "2 infrared images have no visible partner"
        assert error.facts == (f"{Path('ir/1.png')}   {Path('ir/2.png')}",)
        touch("vis/1.png", "vis/2.png", "vis/4.png")
        assert refused("ir", "vis").message == "1 visible image has no infrared partner"

    def test_skip_goes_on_and_says_what_was_left(self) -> None:
        touch("ir/1.png", "ir/2.png", "vis/2.png", "vis/3.png")
        found = find_pairs("ir", "vis", unpaired="skip")
        assert [pair.key for pair in found.pairs] == ["2"]
        assert [Path(p).name for p in found.unmatched_ir] == ["1.png"]
        assert [Path(p).name for p in found.unmatched_vis] == ["3.png"]

    def test_no_pair_at_all_is_an_error_even_with_skip(self) -> None:
        touch("ir/1.png", "vis/2.png")
        assert refused("ir", "vis", unpaired="skip").code == "pair.none"

    def test_no_pair_at_all_shows_two_near_misses_and_the_options(self) -> None:
        touch(*(f"ir/scene-{i}-thermal.png" for i in range(4)))
        touch(*(f"vis/scene-{i}-rgb.jpg" for i in range(4)))
        error = refused("ir", "vis")
        assert error.code == "pair.none"
        assert error.message == "none of 4 infrared and 4 visible images pair up"
        first, second = (fact.split("   ") for fact in error.facts)
        assert [Path(path).name for path in first] == ["scene-0-thermal.png", "scene-0-rgb.jpg"]
        assert [Path(path).name for path in second] == ["scene-1-thermal.png", "scene-1-rgb.jpg"]
        assert error.hint == "4 of 4 match with --ir-suffix=-thermal --vis-suffix=-rgb"
        assert keys("ir", "vis", ir_suffix="-thermal", vis_suffix="-rgb") == [
            f"scene-{i}" for i in range(4)
        ]

    @pytest.mark.parametrize(
        ("ir", "vis", "options"),
        [
            ("{}_ir", "{}", "--ir-suffix _ir"),
            ("{}", "{} visible", "--vis-suffix ' visible'"),
            ("{}_vis", "{}_visible", "--ir-suffix _vis --vis-suffix _visible"),
            ("IR{}", "VIS{}", r"--pair-regex '([0-9]+)[^0-9/]*$'"),
        ],
    )
    def test_the_options_come_from_the_data(self, ir: str, vis: str, options: str) -> None:
        touch(*(f"ir/{ir.format(i)}.png" for i in range(100, 112)))
        touch(*(f"vis/{vis.format(i)}.png" for i in range(100, 112)))
        assert f"12 of 12 match with {options}" in (refused("ir", "vis").hint or "")

    def test_strangers_get_no_invented_advice(self) -> None:
        touch("ir/alpha.png", "ir/beta.png", "ir/gamma.png", "vis/lima.png", "vis/mike.png")
        assert refused("ir", "vis").hint is None

    def test_two_files_of_one_key_on_one_side(self) -> None:
        touch("ir/a.png", "ir/a.tif", "vis/a.png")
        error = refused("ir", "vis")
        assert error.code == "pair.duplicate"
        assert error.message == "1 key has more than one file in 'ir'"
        assert error.facts == (f"a: {Path('ir/a.png')}   {Path('ir/a.tif')}",)
        assert str(Path("ir/*.png")) in (error.hint or "")

    def test_stripping_can_make_duplicates(self) -> None:
        touch("ir/a.png", "ir/a_ir.png", "vis/a.png")
        assert refused("ir", "vis", ir_suffix="_ir").code == "pair.duplicate"

    def test_an_empty_folder_says_what_it_holds_instead(self) -> None:
        touch("ir/a.heic", "ir/b.txt", "vis/a.png", "deep/s/a.png")
        error = refused("ir", "vis")
        assert error.code == "pair.empty"
        assert error.message == "no infrared images in 'ir' (2 files with other suffixes)"
        assert "--recursive" in (refused("deep", "vis").hint or "")

    def test_a_folder_that_is_not_there_names_its_neighbour(self) -> None:
        touch("thermal/a.png", "vis/a.png")
        error = refused("therml", "vis")
        assert error.code == "read.missing"
        assert error.hint == "did you mean 'thermal'?"

    def test_a_folder_that_may_not_be_listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        touch("ir/a.png", "vis/a.png")

        def forbidden(path: str) -> None:  # root, who runs CI, may list everything
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(os, "scandir", forbidden)
        assert refused("ir", "vis").code == "read.permission"


class TestOut:
    @pytest.fixture(autouse=True)
    def files(self) -> None:
        touch("ir/s/a.png", "vis/s/a.png", "ir/a.png", "vis/a.png")

    @pytest.mark.parametrize("out", ["ir/out", "vis/s/deep/out", "./vis/../ir/x", "ir"])
    def test_a_folder_inside_the_input_is_refused_when_recursive(self, out: str) -> None:
        assert refused("ir", "vis", recursive=True, out=out).code == "out.inside"

    def test_the_input_folder_itself_is_always_refused(self) -> None:
        assert refused("ir", "vis", out="vis/").code == "out.inside"

    def test_otherwise_a_sub_folder_is_no_input(self) -> None:
        assert keys("ir", "vis", out="vis/out") == ["a"]

    def test_a_similar_name_is_not_inside(self) -> None:
        assert keys("ir", "vis", recursive=True, out="ir_out") == ["a", "s/a"]

    def test_a_deep_pattern_counts_as_recursive(self) -> None:
        assert refused("ir/**/*.png", "vis/**/*.png", out="ir/out").code == "out.inside"

    def test_an_output_that_is_an_input_file_is_refused(self) -> None:
        error = refused("ir/a.png", "vis/s/a.png", out="vis/s/a.png")
        assert error.code == "out.inside"
        assert keys("ir/a.png", "vis/s/a.png", out="vis/s/b.png") == ["a"]


class TestFindFiles:
    def test_keys_are_sorted(self) -> None:
        touch("x/b.png", "x/a.png", "x/s/a.png")
        assert list(find_files("x", recursive=True)) == ["a", "b", "s/a"]

    def test_duplicates_are_refused(self) -> None:
        touch("x/b.png", "x/b.jpg")
        with pytest.raises(InputError, match="1 key has more than one file"):
            find_files("x")


def test_every_error_can_be_written_as_json() -> None:
    touch("ir/1.png", "vis/2.png")
    error = refused("ir", "vis")
    assert json.loads(json.dumps(error.as_dict()))["code"] == "pair.none"


def test_pairing_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'cv2', 'tifffile', 'numpy'}"
    code = f"import sys, fusecli.pairs; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.stdout.strip() == "set()"


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "count"), [("hard-dev", 16), ("roadscene-test", 20), ("tno-test", 12)]
)
def test_the_real_sets_pair(data_dir: Path, name: str, count: int) -> None:
    found = find_pairs(str(data_dir / name / "ir"), str(data_dir / name / "vi"))
    assert len(found.pairs) == count
    assert found.ignored == 0
