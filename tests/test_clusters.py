"""Processes and clusters give the bytes that threads give, and are recorded like them."""

import json
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import contents, draw_pairs, fuse, lines

from fusecli.errors import FusecliError
from fusecli.fusion import Choices, Network
from fusecli.fusion.run import FuseWork
from fusecli.run import clusters
from fusecli.runtime import Runtime

RANDOM = Network(model="reconet", weights="random")


@pytest.fixture(scope="module")
def run_here(tmp_path_factory) -> tuple[tuple[str, str], dict[str, bytes]]:
    """Return seven pairs, one of them broken, and what threads make of them."""
    folder = tmp_path_factory.mktemp("here")
    pairs = draw_pairs(folder, 7)
    broken = Path(pairs[1], "004.png")
    broken.write_bytes(broken.read_bytes()[:150])
    assert fuse(*pairs, "-o", folder / "out") == 3
    return pairs, contents(folder / "out")


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes find the package from a source checkout too."""
    root = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))


def check(backend: str, run_here, tmp_path: Path, capsys) -> None:
    pairs, expected = run_here
    out = tmp_path / "out"
    command = [*pairs, "-o", out, "--backend", backend, "--chunk", "2", "--json"]
    capsys.readouterr()
    assert fuse(*command) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["runtime"]["backend"] == backend
    assert report["counts"] == {"found": 7, "done": 6, "skipped": 0, "failed": 1}
    assert report["failures"][0]["code"] == "read.decode"
    assert contents(out) == expected
    assert len(lines(out)) == 8
    assert not list(out.rglob("*.part"))
    # Threads go on where the processes stopped: the backend changes no result.
    (out / "002.png").unlink()
    assert fuse(*pairs, "-o", out, "--resume", "--json") == 3
    assert json.loads(capsys.readouterr().out)["counts"]["done"] == 1
    assert contents(out) == expected


def test_loky(run_here, reachable, tmp_path: Path, capsys) -> None:
    check("loky", run_here, tmp_path, capsys)


def test_dask(run_here, reachable, tmp_path: Path, capsys, monkeypatch) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        check("dask", run_here, tmp_path, capsys)


def test_ray(run_here, reachable, tmp_path: Path, capsys) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        check("ray", run_here, tmp_path, capsys)
    finally:
        ray.shutdown()


def refusal(**options) -> FusecliError:
    runtime = SimpleNamespace(devices=(torch.device("cuda", 0),), jobs=2)
    with pytest.raises(FusecliError) as caught:
        clusters.check(options["backend"], runtime)
    return caught.value


def test_several_processes_on_one_cuda_device_are_refused() -> None:
    assert refusal(backend="loky").code == "device.backend"
    clusters.check("loky", SimpleNamespace(devices=(torch.device("cpu"),), jobs=2))
    clusters.check("loky", SimpleNamespace(devices=(torch.device("cuda", 0),), jobs=1))


def test_an_unknown_backend_lists_the_known_ones() -> None:
    error = refusal(backend="dusk")
    assert error.code == "usage.backend"
    assert error.exit_code == 2
    assert "dask" in (error.hint or "")


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_missing_package_is_exit_5(backend, run_here, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, clusters.CLUSTERS[backend], None)
    assert fuse(*run_here[0], "-o", tmp_path / "out", "--backend", backend, "--json") == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "extra.missing"
    assert f"fusecli[{backend}]" in error["hint"]
    assert not (tmp_path / "out").exists()


def test_standard_output_belongs_to_this_process(run_here, tmp_path: Path, capsys) -> None:
    ir, vis = (Path(side, "000.png") for side in run_here[0])
    command = ["-o", "-", "--format", "png", "--backend", "loky", "--json"]
    assert fuse(ir, vis, *command[:-1]) == 2
    assert "loky" in capsys.readouterr().err


def test_weights_that_differ_elsewhere_are_noticed() -> None:
    work = FuseWork(RANDOM, Choices(), Runtime.resolve("cpu"))
    work.sha256 = "0" * 64
    with pytest.raises(FusecliError) as caught:
        pickle.loads(pickle.dumps(work))(None)
    assert (caught.value.code, caught.value.exit_code) == ("weights.differ", 5)
    assert caught.value.hint


def test_workers_compute_in_as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """With other numbers of threads the last bits of sums differ: the bytes would too."""
    asked: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    work = FuseWork(RANDOM, Choices(), Runtime.resolve("cpu"))
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    with pytest.raises(AttributeError):  # there is no job, but by then the network is there
        pickle.loads(pickle.dumps(work))(None)
    assert asked == [3]
