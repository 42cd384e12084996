"""Padding, tiles, tone and batches: the pipeline around any network."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusecli.errors import InputError, UsageError
from fusecli.fusion import Tiling, workers
from fusecli.fusion.network import Fuser, pad_to
from fusecli.fusion.preparation import fold_batch_norm
from fusecli.fusion.tiles import run_tiled, windows
from fusecli.fusion.workers import InferenceWorker
from fusecli.models import ModelSpec

CPU = torch.device("cpu")


class Blur(nn.Module):
    """A network that sees 3 pixels far, pools by 2, and knows its largest input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(2, 4, 5, padding=2)
        self.bn = nn.BatchNorm2d(4)
        self.bn.running_mean.uniform_(-1, 1)
        self.bn.running_var.uniform_(0.5, 2)
        self.last = nn.Conv2d(4, 1, 3, padding=1)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        self.sizes.append(tuple(ir.shape))
        return self.last(self.bn(self.conv(torch.cat([ir, vis], 1))).relu())


def spec(**changes) -> ModelSpec:
    facts = {"title": "Blur", "paper": "-", "build": Blur, "tiling": "exact"}
    return ModelSpec(**(facts | {"halo": lambda options: 3} | changes))


def fuser(network: nn.Module | None = None, **changes) -> Fuser:
    wanted = {k: changes.pop(k) for k in ("tone", "tiling_", "dtype") if k in changes}
    tiling = wanted.pop("tiling_", None)
    return Fuser(network or Blur().eval(), spec(**changes), {}, device=CPU, tiling=tiling, **wanted)


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (64, 64), (65, 131), (40, 300)])
@pytest.mark.parametrize("stride", [1, 8])
def test_inner_parts_cover_the_image_once(height: int, width: int, stride: int) -> None:
    covered = np.zeros((height, width), int)
    for window in windows(height, width, 32, 5, stride):
        top, bottom, left, right = window.inner
        covered[top:bottom, left:right] += 1
        assert window.outer[0] % stride == 0
        assert window.outer[2] % stride == 0
        assert window.outer[0] <= max(0, top - 5)
        assert window.outer[3] >= min(width, right + 5)
    assert (covered == 1).all()


def test_exact_tiles_equal_the_whole_image() -> None:
    network = Blur().eval()
    ir, vis = pair(2, 1, 71, 53)
    whole = network(ir, vis)
    tiled = run_tiled(network, ir, vis, tile=16, halo=3)
    assert torch.equal(tiled.round(decimals=5), whole.round(decimals=5))
    too_little = run_tiled(network, ir, vis, tile=16, halo=1)
    assert (too_little - whole).abs().max() > 1e-3


def test_blended_tiles_have_no_seam() -> None:
    ir, vis = pair(1, 1, 90, 90)
    offsets = iter(torch.linspace(0, 1, 100))

    def drifting(ir: Tensor, vis: Tensor) -> Tensor:
        return torch.zeros_like(ir) + next(offsets)

    blended = run_tiled(drifting, ir, vis, tile=30, halo=10, blend=True)
    steps = blended.diff(dim=-1).abs().max()
    offsets = iter(torch.linspace(0, 1, 100))
    hard = run_tiled(drifting, ir, vis, tile=30, halo=10)
    assert steps < 0.2 * hard.diff(dim=-1).abs().max()
    same = run_tiled(lambda a, b: a, ir, vis, tile=30, halo=10, blend=True)
    torch.testing.assert_close(same, ir)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 40), (16, 16)])
def test_padding_reflects_then_replicates(size: tuple[int, int]) -> None:
    image = torch.arange(float(size[0] * size[1])).view(1, 1, *size)
    padded = pad_to(image, 48, 48, "reflect")
    assert padded.shape == (1, 1, 48, 48)
    assert torch.equal(padded[..., : size[0], : size[1]], image)
    if size == (16, 16):
        assert torch.equal(padded[0, 0, 0, 16:31], image[0, 0, 0, :15].flip(0))
        assert (padded[0, 0, 0, 31:] == padded[0, 0, 0, 30]).all()
    replicated = pad_to(image, 48, 48, "replicate")
    assert (replicated[0, 0, :, -1][: size[0]] == image[0, 0, :, -1]).all()


@pytest.mark.parametrize("size", [(1, 1), (17, 19), (33, 64)])
def test_output_has_the_size_of_the_input(size: tuple[int, int]) -> None:
    network = Blur().eval()
    run = fuser(network, multiple_of=16)
    assert run(*pair(2, 1, *size)).shape == (2, 1, *size)
    seen = run.network.sizes[-1]
    assert seen[2] % 16 == 0
    assert seen[3] % 16 == 0


def test_folding_changes_nothing_and_leaves_the_original_alone() -> None:
    network = Blur().eval()
    folded = fold_batch_norm(network)
    ir, vis = pair(1, 1, 20, 20)
    torch.testing.assert_close(folded(ir, vis), network(ir, vis), atol=1e-5, rtol=0)
    assert isinstance(network.bn, nn.BatchNorm2d)
    assert isinstance(folded.bn, nn.Identity)


def test_value_range_and_tone() -> None:
    class Scale(nn.Module):
        def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
            return 0.5 * ir + 300 * (vis > 254)

    ir, vis = pair(2, 1, 8, 8)
    vis *= 0.9
    vis[0, 0, 0, 0] = 1.0
    clipped = fuser(Scale(), input_range=(0.0, 255.0))(ir, vis)
    expected = 0.5 * ir
    expected[0, 0, 0, 0] = 1.0
    torch.testing.assert_close(clipped, expected)
    stretched = fuser(Scale(), input_range=(0.0, 255.0), tone="stretch")(ir, vis)
    for image, raw in zip(stretched, 0.5 * ir + 300 / 255 * (vis > 254 / 255), strict=True):
        torch.testing.assert_close(image, (raw - raw.min()) / (raw.max() - raw.min()))
    flat = torch.full((1, 1, 4, 4), 0.5)
    assert (fuser(Scale(), tone="stretch")(flat, flat) == 0.25).all()


def test_bf16_spares_the_layers_that_the_network_names() -> None:
    ir, vis = pair(1, 1, 40, 30)
    whole = fuser()(ir, vis)
    narrow = fuser(dtype=torch.bfloat16)
    spared = fuser(dtype=torch.bfloat16, full_precision=("conv", "last"))
    assert narrow.network(ir, vis).dtype == torch.float32  # autocast is the fuser's
    assert torch.equal(spared(ir, vis), whole)
    assert not torch.equal(narrow(ir, vis), whole)
    assert torch.equal(fuser(full_precision=("conv",))(ir, vis), whole)


def test_tiles_are_used_when_asked_for_and_only_then() -> None:
    ir, vis = pair(1, 1, 100, 80)
    run = fuser(tiling_=Tiling(tile=32))
    whole = fuser(tiling_=Tiling(tile=0))
    torch.testing.assert_close(run(ir, vis), whole(ir, vis), atol=1e-5, rtol=0)
    assert len(run.network.sizes) > 4
    assert len(whole.network.sizes) == 1


def test_tiles_follow_from_the_memory() -> None:
    ir, vis = pair(1, 1, 200, 150)
    whole, tiled = fuser(memory=1000), fuser(memory=1000)
    tiled.memory = 4 * 1000 * 100 * 100  # a quarter is for the network: tiles of 100x100
    torch.testing.assert_close(tiled(ir, vis), whole(ir, vis), atol=1e-5, rtol=0)
    assert len(whole.network.sizes) == 1
    assert len(tiled.network.sizes) == 3 * 2
    assert max(rows * columns for _, _, rows, columns in tiled.network.sizes) <= 100 * 100


def test_an_untileable_image_beyond_the_memory_is_refused_before_it_runs() -> None:
    run = fuser(memory=1000, tiling="never")
    run.memory = 1000 * 40 * 30
    run(*pair(1, 1, 40, 30))
    with pytest.raises(InputError, match="Blur cannot fuse 31x40 pixels") as caught:
        run(*pair(1, 1, 40, 31))
    assert caught.value.code == "model.memory"
    assert len(run.network.sizes) == 1


def test_tiles_are_refused_by_a_network_without() -> None:
    with pytest.raises(UsageError, match="Blur cannot be tiled") as caught:
        fuser(tiling="never", tiling_=Tiling(64))
    assert caught.value.code == "usage.tile"


def test_no_tiles_beyond_the_memory_are_refused_with_what_helps() -> None:
    run = fuser(memory=1000, tiling_=Tiling(0))
    run.memory = 1000 * 40 * 30
    with pytest.raises(InputError, match="cannot fuse 31x40 pixels") as caught:
        run(*pair(1, 1, 40, 31))
    assert "--tile off" in caught.value.hint


def test_when_images_are_cut_is_told() -> None:
    def told(tile: int | None, tiling: str) -> str:
        run = fuser(memory=1000, tiling=tiling, tiling_=Tiling(tile))
        run.memory = 4 * 1000 * 1000 * 1000
        return run.about_tiles()

    assert "more than 1.0 megapixels are cut into tiles of 994 pixels" in told(None, "exact")
    assert "more than 2.0 megapixels are cut into tiles of 994 pixels" in told(None, "passes")
    assert "tiles of 64 pixels" in told(64, "exact")
    assert "never cut" in told(0, "exact")
    assert "looks at the whole" in told(None, "never")


@pytest.mark.parametrize(("tiling", "runs"), [("exact", 4), ("passes", 1)])
def test_a_network_in_passes_is_tiled_later(tiling: str, runs: int) -> None:
    """Its tiles cost several times the whole: of its share of the memory it may take twice."""
    run = fuser(memory=1000, tiling=tiling)
    run.memory = 3 * 1000 * 100 * 100
    run(*pair(1, 1, 100, 100))
    assert len(run.network.sizes) == runs


class SmallCard(Blur):
    """A network on a device with room for so many pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        if ir.numel() > self.pixels:
            raise torch.cuda.OutOfMemoryError("so much was not free")
        return super().forward(ir, vis)


@pytest.mark.parametrize(("tile", "left"), [(None, 50), (160, 80)])
def test_a_device_out_of_memory_halves_the_tile_and_goes_on(tile: int | None, left: int) -> None:
    ir, vis = pair(1, 1, 200, 170)
    run = fuser(SmallCard(90 * 90).eval(), tiling_=Tiling(tile))
    torch.testing.assert_close(run(ir, vis), fuser()(ir, vis), atol=1e-5, rtol=0)
    assert max(run.network.sizes) == (1, 1, left + 2 * 3, left + 2 * 3)


@pytest.mark.parametrize("tiling", ["exact", "never"])
def test_a_device_without_room_for_the_smallest_tile_says_so(tiling: str) -> None:
    run = fuser(SmallCard(100).eval(), tiling=tiling)
    with pytest.raises(InputError, match="cannot fuse 170x200 pixels") as caught:
        run(*pair(1, 1, 200, 170))
    assert (caught.value.code, caught.value.exit_code) == ("model.memory", 2)
    assert "model that can be tiled" in caught.value.hint


def test_too_small_an_image_is_refused_with_the_size() -> None:
    with pytest.raises(InputError, match="at least 16x16.*9x8") as caught:
        fuser(min_size=16)(*pair(1, 1, 8, 9))
    assert caught.value.code == "model.size"


@pytest.mark.parametrize("batch_size", [1, 3])
def test_worker_answers_each_caller_with_its_own_result(batch_size: int) -> None:
    run = fuser()
    worker = InferenceWorker([run], batch_size)
    shapes = [(12, 12), (12, 12), (9, 14), (12, 12), (9, 14), (12, 12)]
    pairs = [tuple(image[0, 0].numpy() for image in pair(1, 1, *shape)) for shape in shapes]
    pairs = [(ir * (n + 1) / 6, vis) for n, (ir, vis) in enumerate(pairs)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda images: worker(*images), pairs))
    worker.close()
    for (ir, vis), result in zip(pairs, results, strict=True):
        alone = run(torch.from_numpy(ir)[None, None], torch.from_numpy(vis)[None, None])
        np.testing.assert_allclose(result.image, alone[0, 0].numpy(), atol=1e-5)
    largest = max(size[0] for size in run.network.sizes)
    assert largest == 1 if batch_size == 1 else 1 < largest <= 3


class Meeting:
    """A network that goes on only when as many run as are expected; its device is a name."""

    def __init__(self, device: str, meeting: threading.Barrier) -> None:
        self.device, self.meeting = torch.device(device), meeting
        self.seen: list[object] = []

    def __call__(self, ir: Tensor, vis: Tensor, toned: bool = True) -> Tensor:
        self.meeting.wait(timeout=60)
        self.seen.append(getattr(STREAM, "now", None))
        return ir


STREAM = threading.local()


def test_every_device_is_at_work_at_once() -> None:
    meeting = threading.Barrier(2)
    networks = [Meeting("cpu", meeting), Meeting("cpu", meeting)]
    assert [len(network.seen) for network in run_four(networks)] == [2, 2]


def test_a_gpu_has_two_batches_in_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def stream(chosen: object):
        STREAM.now = chosen
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: (device, object()))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    meeting = threading.Barrier(4)
    networks = run_four([Meeting("cuda:0", meeting), Meeting("cuda:1", meeting)])
    for network in networks:
        assert len(set(network.seen)) == 2
        assert {device for device, _ in network.seen} == {network.device}
    assert workers.lanes(CPU) == 1


def run_four(networks: list[Meeting]) -> list[Meeting]:
    """Ask for four pairs at once, and return the networks."""
    worker = InferenceWorker(networks)
    pairs = [np.full((3, 3), number, np.float32) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda image: worker(image, image), pairs))
    worker.close()
    assert [result.image[0, 0] for result in results] == [0, 1, 2, 3]
    return networks


def test_worker_hands_errors_to_the_caller_and_lives_on() -> None:
    worker = InferenceWorker([fuser(min_size=8)])
    small, large = np.zeros((4, 4), np.float32), np.zeros((8, 8), np.float32)
    with pytest.raises(InputError):
        worker(small, small)
    assert worker(large, large).image.shape == (8, 8)
    worker.close()


def test_a_batch_norm_is_folded_wherever_it_follows_a_convolution_in_a_sequence() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    for _ in range(3):
        network(torch.rand(2, 1, 9, 9))  # statistics to fold
    image = torch.rand(1, 1, 9, 9)
    folded = fold_batch_norm(network)
    kinds = [type(part).__name__ for part in folded]
    assert kinds == ["Conv2d", "Identity", "ReLU", "BatchNorm2d"]
    assert torch.allclose(folded(image), network.eval()(image), atol=1e-6)
