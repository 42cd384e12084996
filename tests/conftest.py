"""Folders of data and fixtures that live beside the repository, and the devices to test on."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# how long an example takes says how busy the machine is
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, and before torch

import torch  # noqa: E402

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton: kernels then run here

SHARED = Path(os.environ.get("FUSECLI_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of picture sets, or skip where there is none."""
    folder = Path(os.environ.get("FUSECLI_DATA", SHARED / "data"))
    if not folder.is_dir():
        pytest.skip(f"no picture sets in {folder}; set FUSECLI_DATA")
    return folder


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Return the folder of golden values and published checkpoints, or skip."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference fixtures in {folder}; set FUSECLI_SHARED")
    return folder


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Return each device in turn; CUDA is skipped where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Let nothing but Triton kernels run; return where."""
    pytest.importorskip("triton")
    monkeypatch.setenv("FUSECLI_OPS", "triton")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.Tensor]:
    """Return a way to call a function with the definitions only."""

    def call(function: Callable[..., torch.Tensor], *arguments: object) -> torch.Tensor:
        with monkeypatch.context() as context:
            context.setenv("FUSECLI_OPS", "eager")
            return function(*arguments)

    return call
