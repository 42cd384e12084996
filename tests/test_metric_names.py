"""Metrics by name: conventions, groups, and what a metric says about itself."""

import pytest

from fusecli.errors import UsageError
from fusecli.metrics import GROUPS, find, keys, select

IMAGES = ("ir", "vis", "fused", "reference")
LABELLED = (*IMAGES, "targets")
ALL = [spec for spec in map(find, keys()) if set(spec.needs) <= set(IMAGES)]


def test_plain_names_mean_the_recommended_conventions():
    recommended = {
        "gray": ["en", "sd", "ei", "ce", "mse", "qcb", "qcv"], "mean": ["sf", "ag", "cc"],
        "bits": ["mi"], "sum": ["scd", "ssim", "vif"], "255": ["qabf", "nabf", "labf"],
        "wang_mean": ["msssim"], "sqrt_mse": ["rmse"], "std": ["psnr"], "hossny": ["nmi"],
        "han": ["viff"], "robust": ["qy", "qc"],
        "liu": ["qg", "qs", "qw", "qe", "qncie", "qsf", "qp"], "edge": ["fmi"],
    }  # fmt: skip
    for convention, names in recommended.items():
        for name in names:
            assert find(name).key == f"{name}:{convention}"


def test_every_name_has_exactly_one_plain_convention():
    every = [find(key) for key in keys()]
    for name in {spec.name for spec in every}:
        conventions = [spec for spec in every if spec.name == name]
        assert len(conventions) == 1 or sum(spec.plain for spec in conventions) == 1, name


def test_groups_hold_known_metrics_only():
    for name, members in GROUPS.items():
        images = ["transform"] if name == "registration" else LABELLED
        assert [spec.key for spec in select(name, images)] == list(members)
    assert len(GROUPS["vifb"]) == 13


def test_select_keeps_order_and_drops_repeats():
    chosen = [spec.key for spec in select("qabf, mi:nats,standard,qabf:255")]
    assert chosen[:2] == ["qabf:255", "mi:nats"]
    assert len(chosen) == len(set(chosen)) == len(GROUPS["standard"])


def test_all_is_what_the_images_allow():
    assert list(select("all", IMAGES)) == ALL
    assert {spec.key for spec in select("all", ["transform"])} == set(GROUPS["registration"])
    assert all("reference" not in spec.needs for spec in select("all"))
    assert {spec.needs for spec in select("all", ("ir", "vis"))} == {("ir", "vis")}


@pytest.mark.parametrize(
    ("text", "said"), [("qabbf", "qabf"), ("mi:natz", "mi:nats"), ("", "standard")]
)
def test_unknown_metrics_are_refused_with_a_hint(text, said):
    with pytest.raises(UsageError) as error:
        select(text)
    assert said in error.value.hint


def test_auc_is_that_of_what_is_at_hand():
    assert [spec.key for spec in select("auc", LABELLED)] == ["auc"]
    assert [spec.key for spec in select("auc", ["transform"])] == ["auc:10"]
    with pytest.raises(UsageError, match="--targets FILE"):
        select("targets", IMAGES)


def test_full_reference_metrics_need_a_reference():
    with pytest.raises(UsageError, match="--reference"):
        select("psnr:reference")
    with pytest.raises(UsageError, match="--truth"):
        select("epe")


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.key)
def test_a_metric_describes_itself(spec):
    assert spec.about and spec.source and spec.label
    assert set(spec.needs) <= set(IMAGES)
    assert spec.range[0] < spec.range[1]
    assert spec.colour == (spec.key.partition(":")[2] == "vifb")
