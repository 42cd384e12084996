"""The comparison with published networks: ranks, shifts and the table."""

import pytest
import torch

from benchmarks import quality


def row(**changed: float) -> dict[str, float]:
    names = dict(zip(quality.KEYS, ("vif", "qabf", "ssim", "scd", "mi", "nabf", "cc"), strict=True))
    return {key: changed.get(name, 0.5) for key, name in names.items()}


def test_ranks_follow_the_direction_of_each_metric() -> None:
    better = {"vif": 0.9, "qabf": 0.9, "ssim": 0.9, "scd": 0.9, "mi": 0.9}
    ranks = quality.mean_ranks({"a": row(**better, nabf=0.1), "b": row(), "c": row(nabf=0.9)})
    assert ranks["a"] == 1
    assert ranks["b"] == 2
    assert ranks["c"] == pytest.approx((5 * 2 + 3) / 6)  # shares five ranks with b
    assert quality.mean_ranks({"a": row(cc=0.9), "b": row()}) == {"a": 1, "b": 1}


def test_a_shift_displaces_the_infrared_only() -> None:
    ir, vis = torch.rand(2, 1, 1, 9, 12).unbind()
    moved, seen, aligned = quality.shifted(ir, vis, 3)
    assert moved.shape == seen.shape == aligned.shape == (1, 1, 6, 9)
    assert torch.equal(moved[..., :3, :6], aligned[..., 3:, 3:])
    assert torch.equal(seen, vis[..., :6, :9])
    assert all(torch.equal(a, b) for a, b in zip(quality.shifted(ir, vis, 0), (ir, vis, ir),
                                                 strict=True))  # fmt: skip


def test_peers_are_listed_beside_our_own() -> None:
    peers = quality.read_peers("roadscene-test")
    assert "SHIP 2024" in peers
    best = row(vif=9, qabf=9, ssim=9, scd=9, mi=9, nabf=0.0)
    rows = [{"set": "roadscene-test", "network": "ours", "shift": s, "pairs": 1} | best
            for s in (0, 5)]  # fmt: skip
    text = quality.report(rows)
    first = text.splitlines()[4]
    assert first.startswith("| **ours** | 9.000 |")
    assert first.endswith("| 1.0 |")
    assert "| ours | 5 px | 100 % | 100 % | 100 % |" in text
    assert text.count("2024") == sum("2024" in name for name in peers)
