"""What fusion is for: measures of drawn pictures whose answers are known, and labelled targets."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from evaluations import evaluate, read_csv, save, scored
from scipy import ndimage, stats

from fusecli.errors import InputError
from fusecli.evaluation.cases import Case
from fusecli.evaluation.labels import load
from fusecli.metrics import Plane, Scene, measure, select
from fusecli.metrics.targets import Box, found, seen

SIZE = (120, 160)
DISC = Box(50, 40, 31, 31, "person")


def disc(background: float, target: float, centre: tuple[int, int] = (55, 65), r: int = 15):
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= r**2
    return np.where(inside, float(target), float(background))


def texture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    coarse = np.random.default_rng(seed).uniform(0, 255, (9, 12))
    return np.rint(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)).clip(0, 255)


def plane(pixels: np.ndarray) -> Plane:
    return Plane(torch.from_numpy(pixels).double()[None, None])


def values(ir, vis, fused, *boxes: Box) -> dict[str, float]:
    scene = Scene(plane(ir), plane(vis), plane(fused), targets=(boxes,))
    wanted = "purpose,targets" if boxes else "purpose"
    specs = select(wanted, ("ir", "vis", "fused", "targets"))
    return {key: value.item() for key, value in measure(specs, scene).items()}


# ---- labelled targets


@pytest.mark.parametrize(("target", "kept"), [(160, 1), (115, 0.25), (100, 0), (220, 2)])
def test_a_disc_keeps_the_contrast_that_it_was_drawn_with(target, kept):
    got = values(disc(100, 160), disc(100, 90), disc(100, target), DISC)
    assert got["contrast"] == pytest.approx(kept)
    assert (got["contrast:half"], got["sign"]) == (kept < 0.5, 0)
    assert got["auc"] == (0.5 if kept == 0 else 1)


def test_an_inverted_target_has_the_opposite_sign():
    got = values(disc(100, 160), disc(100, 90), disc(100, 70), DISC)
    assert (got["contrast"], got["sign"], got["auc"]) == (0.5, 1, 1)
    cold = values(disc(160, 100), disc(100, 90), disc(100, 70), DISC)
    assert (cold["contrast"], cold["sign"]) == (0.5, 0)  # dark in both


def test_faint_targets_and_other_classes_do_not_count():
    assert np.isnan(values(disc(100, 107), disc(9, 9), disc(9, 99), DISC)["contrast"])
    left_out = DISC._replace(counts=False)
    assert np.isnan(values(disc(100, 160), disc(9, 9), disc(9, 99), left_out)["sign"])


def test_other_boxes_are_left_out_of_a_ring():
    beside = Box(83, 40, 31, 31, "vehicle", counts=False)
    ir = np.maximum(disc(100, 160), disc(100, 130, (55, 98)))
    alone, known = (found(plane(ir), (boxes,))[0][0] for boxes in ((DISC,), (DISC, beside)))
    assert known.contrast > alone.contrast
    assert known.ring.sum() < alone.ring.sum()


def test_contrast_and_separability_agree_with_a_second_spelling():
    ir, fused = texture(3), texture(4)
    for box in (Box(20, 30, 24, 40, "person"), Box(140, 100, 30, 30, "hot")):  # one is cut off
        for shown in seen(plane(fused), plane(ir), ((box,),))[0]:
            rows, columns = shown.target.place
            inside = fused[rows, columns][shown.target.inside]
            ring = fused[rows, columns][shown.target.ring]
            own = (inside.mean() - ring.mean()) / (ring.std() + 8)
            assert shown.kept * shown.target.contrast == pytest.approx(own)
            area = stats.mannwhitneyu(inside, ring).statistic / (inside.size * ring.size)
            assert shown.auc == pytest.approx(max(area, 1 - area))


# ---- whole pictures


def panel(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a flat hot panel in the infrared, a flat visible image, and where the panel is."""
    ir, where = np.full(SIZE, 60.0), np.zeros(SIZE, bool)
    where[20:100, 30:130] = True
    ir[where] = 200
    return ir, np.full(SIZE, 100.0), where


def test_a_gradient_on_a_hot_panel_is_uneven():
    ir, vis, where = panel()
    ramp = np.broadcast_to(np.linspace(-24, 24, SIZE[1]), SIZE)
    even = values(ir, vis, np.where(where, 150.0, 90))
    assert even["uneven"] == pytest.approx(0, abs=1e-9)
    assert even["level"] == pytest.approx(0.5)
    uneven = values(ir, vis, np.where(where, 150 + np.rint(ramp), 90))
    drawn = np.rint(ramp)[50, 38:122].std()  # what is left of it when the rim is taken off
    assert uneven["uneven"] == pytest.approx(drawn, rel=0.12)
    shared = values(ir, np.where(where, 100 + np.rint(ramp), 90), np.where(where, 150 + ramp, 90))
    assert shared["uneven"] == pytest.approx(0, abs=0.1)  # the visible image has it too


def test_a_ring_of_light_is_a_halo_of_its_height():
    size = (200, 240)
    y, x = np.ogrid[: size[0], : size[1]]
    far = np.hypot(y - 100, x - 120)
    ir, vis = np.where(np.abs(far - 20) <= 1, 220.0, 80), np.full(size, 100.0)
    strong = np.hypot(*(ndimage.gaussian_filter(ir, 1, order=o) for o in ((0, 1), (1, 0)))) >= 12
    away = ndimage.distance_transform_edt(~strong)
    assert values(ir, vis, vis)["halo"] == pytest.approx(0, abs=1e-9)
    lit = values(ir, vis, np.where(away <= 18, 120, vis))
    assert lit["halo"] == pytest.approx(20, abs=0.1)
    assert values(ir, np.where(away <= 18, 105, vis), np.where(away <= 18, 120, vis))[
        "halo"
    ] == pytest.approx(15, abs=0.1)  # the visible image has a step of 5 itself


def test_edges_kept_agree_with_a_second_spelling():
    ir, vis, fused = texture(1), texture(2), np.rint(0.7 * texture(1) + 0.2 * texture(5))

    def slope(image):
        orders = ((0, 1), (1, 0))
        return np.stack([ndimage.gaussian_filter(image, 1, o, mode="nearest") for o in orders])

    got = values(ir, vis, fused)
    for key, source in (("kept:ir", ir), ("kept:vis", vis)):
        own, other = slope(source), slope(fused)
        square = (own**2).sum(0)
        part = np.clip(np.abs((own * other).sum(0)) / np.maximum(square, 1e-12), 0, 1)
        assert got[key] == pytest.approx((part * square).sum() / square.sum(), rel=1e-3)
    assert values(ir, vis, ir)["kept:ir"] == pytest.approx(1)
    assert values(ir, vis, 255 - vis)["kept:vis"] == pytest.approx(1)


# ---- files of labels


def write_csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["stem,x,y,w,h,class", *rows]) + "\n")
    return path


def case(key: str, folder: str = "ir") -> Case:
    return Case(key, f"{folder}/{key}.png", f"{folder}/{key}.png", ())


def test_three_formats_say_the_same(tmp_path):
    plain = write_csv(tmp_path / "a.csv", "one,50,40,30,20,person")
    coco = tmp_path / "a.json"
    coco.write_text(json.dumps({
        "images": [{"id": 7, "file_name": "one.png"}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [50, 40, 30, 20]}],
    }))  # fmt: skip
    yolo = tmp_path / "labels"
    yolo.mkdir()
    (yolo / "one.txt").write_text(f"0 {65 / 160} {50 / 120} {30 / 160} {20 / 120}\n")
    (yolo / "classes.txt").write_text("person\n")
    for source in (plain, coco, yolo):
        boxes, outside = load(str(source), "person", [case("one")]).boxes("one", SIZE)
        assert (boxes, outside) == ((Box(50, 40, 30, 20, "person"),), 0)
    (yolo / "classes.txt").unlink()
    (tmp_path / "data.yaml").write_text("names:\n  0: person\n  1: car\n")
    assert load(str(yolo), "person", [case("one")]).by_key


def test_sets_and_keys_name_their_pairs(tmp_path):
    path = tmp_path / "a.csv"
    rows = ["night,1,5,5,9,9,person", "day,1,7,7,9,9,person"]
    path.write_text("\n".join(["set,stem,x,y,w,h,class", *rows]))
    labels = load(str(path), "person", [case("1", "night/ir")])
    assert labels.boxes("1", SIZE)[0][0].left == 5
    assert labels.unknown == ("day/1",)
    deep = load(str(path), "person", [case("night/1"), case("day/1")])
    assert deep.boxes("day/1", SIZE)[0][0].left == 7
    with pytest.raises(InputError, match="several images"):
        load(str(path), "person", [case("1")])


@pytest.mark.parametrize(
    ("text", "classes", "code"),
    [
        ("", "person", "targets.empty"),
        ("stem,x,y,w,h,class\n", "person", "targets.empty"),
        ("stem,x,y,w,h\n1,2,3,4,5\n", "person", "targets.read"),
        ("stem,x,y,w,h,class\n1,2,3,0,5,person\n", "person", "targets.read"),
        ("stem,x,y,w,h,class\n1,2,nan,4,5,person\n", "person", "targets.read"),
        ("stem,x,y,w,h,class\n1,2,3\n", "person", "targets.read"),
        ('{"images": []}', "person", "targets.read"),
        ("stem,x,y,w,h,class\n1,2,3,4,5,boat\n", "person", "targets.class"),
        ("stem,x,y,w,h,class\n9,2,3,4,5,person\n", "all", "targets.none"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path, text, classes, code):
    path = tmp_path / "labels"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load(str(path), classes, [case("1")])
    assert error.value.code == code


# ---- the command


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Write two pairs with a method: three targets in the first, one in the second."""
    centres = [(30, 30), (30, 110), (90, 70)]
    for key, count in (("0", 3), ("1", 1)):
        ir = sum(disc(0, 120, centre) for centre in centres[:count]) + 60
        kept = sum(disc(0, 12 * (n + 1), centre) for n, centre in enumerate(centres[:count])) + 60
        save(tmp_path / "ir" / f"{key}.png", ir.astype(np.uint8))
        save(tmp_path / "vis" / f"{key}.png", np.full(SIZE, 60, np.uint8))
        save(tmp_path / "m" / f"{key}.png", kept.astype(np.uint8))
    rows = [f"0,{x - 15},{y - 15},31,31,person" for y, x in centres]
    write_csv(
        tmp_path / "labels.csv", *rows, "1,15,15,31,31,hot", "1,900,0,9,9,hot", "7,1,1,9,9,hot"
    )
    return tmp_path


def test_the_median_is_over_targets_and_not_over_images(street, capsys):
    out = street / "report"
    flags = ("--targets", street / "labels.csv", "-o", out)
    document = scored(street, capsys, street / "m", *flags, "--metrics", "en,targets")
    found = document["metrics"]["m"]["contrast"]
    assert found["n"] == 4
    assert found["median"] == pytest.approx(0.15)  # of 0.1, 0.2, 0.3 and 0.1
    assert document["metrics"]["m"]["contrast:half"]["mean"] == 1
    codes = [warning["code"] for warning in document["warnings"]]
    assert "targets.outside" in codes
    table = read_csv((out / "targets.csv").read_text())
    assert [row["class"] for row in table] == ["person"] * 3 + ["hot"]
    assert [round(float(row["kept"]), 3) for row in table] == [0.1, 0.2, 0.3, 0.1]
    page = (out / "report.html").read_text()
    assert "Worst targets" in page and "targets: over 4" in page
    assert page.index("0 · person at 15, 15") < page.index("0 · person at 55, 75")
    assert len(json.loads((out / "report.json").read_text())["targets"]) == 4
    shown = scored(street, capsys, street / "m", *flags[:2], "--fail-under", "contrast=0.16")
    assert shown["exit_code"] == 6


def test_unknown_images_are_counted_and_classes_chosen(street, capsys):
    flags = ("--targets", street / "labels.csv", "--target-class", "hot")
    assert evaluate(street, street / "m", *flags) == 0
    said = capsys.readouterr()
    assert "1 labelled images are not among the pairs: 7" in said.err
    assert "targets: over 1" in " ".join(said.out.split()) and "contrast:half" in said.out
    assert evaluate(street, street / "m", "--metrics", "targets") == 2
    assert "--targets FILE" in capsys.readouterr().err
