"""health.json says what is true of rows in which it was planted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sae.activations import health
from sae.activations.health_records import SiteHealth
from sae.activations.sums import SiteSums
from sae.core.errors import InputError, WorldError
from sae.core.random import generator

N, D, WINDOW, VOCABULARY = 20_000, 16, 50, 100
POSITIONS = np.arange(N, dtype=np.int32) % WINDOW
IDS = np.random.default_rng(0).integers(0, VOCABULARY - 1, N).astype(np.int32)


def plain() -> torch.Tensor:
    return torch.randn(N, D, generator=generator(3))


def health_of(folder: Path, x: torch.Tensor, ids: np.ndarray = IDS) -> SiteHealth:
    sums = SiteSums(D, VOCABULARY, WINDOW)
    for first in range(0, N, 1024):
        part = slice(first, first + 1024)
        sums.update(x[part], POSITIONS[part], ids[part])
    health.write(folder, {"site": sums}, lambda token: f"<{token}>")
    return health.read(folder).sites["site"]


def test_plain_rows_are_unremarkable(tmp_path: Path) -> None:
    found, x = health_of(tmp_path, plain()), plain()
    assert found.gamma < 0.05
    assert found.sinks.n_rows == 0
    assert found.outlier_dimensions == () == found.tokens.standing_out
    assert found.spectrum.effective_rank == pytest.approx(D, rel=0.02)
    assert found.spectrum.top_shares[8] == pytest.approx(0.5, abs=0.05)
    norms = x.norm(dim=1)
    for name, share in (("p1", 0.01), ("p5", 0.05), ("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = float(norms.quantile(share))
        assert getattr(found.norms, name) == pytest.approx(exact, rel=health.read(tmp_path).norm_resolution)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 30.0, 1000.0])
def test_a_planted_mean_is_found(tmp_path: Path, gamma: float) -> None:
    offset = torch.zeros(D)
    offset[5] = gamma * D**0.5
    found = health_of(tmp_path, plain() + offset)
    assert found.gamma == pytest.approx(gamma, rel=0.02, abs=0.02)
    assert found.gamma_ordinary == pytest.approx(found.gamma, rel=0.02)
    assert found.spectrum.effective_rank == pytest.approx(D, rel=0.02), "the mean is no component"
    if gamma >= 2:
        assert found.outlier_dimensions[0].dimension == 5
        assert found.outlier_dimensions[0].mean == pytest.approx(float(offset[5]), rel=0.02)


def test_sinks_at_the_first_position_are_found(tmp_path: Path) -> None:
    x = plain() + 2
    x[::WINDOW, 3] += 400
    found = health_of(tmp_path, x)
    assert found.sinks.n_rows == N // WINDOW
    assert found.sinks.share_of_rows == pytest.approx(1 / WINDOW)
    assert found.sinks.share_at_first_position == 1
    assert found.sinks.share_of_mean_square > 0.95
    assert [p.sink_fraction for p in found.by_position] == [1.0] + [0.0] * (len(found.by_position) - 1)
    assert found.gamma < 0.3, "sinks hide the mean"
    assert found.gamma_ordinary == pytest.approx(2, rel=0.05)
    assert found.spectrum.effective_rank < 2


def test_a_token_with_a_huge_norm_is_named(tmp_path: Path) -> None:
    x, ids = plain(), IDS.copy()
    ids[::100] = VOCABULARY - 1
    x[::100] *= 50
    found = health_of(tmp_path, x, ids)
    token = found.tokens.standing_out[0]
    assert (token.id, token.text, token.n_rows) == (VOCABULARY - 1, f"<{VOCABULARY - 1}>", N // 100)
    assert token.times_median == pytest.approx(50, rel=0.05)
    assert token.share_of_mean_square == pytest.approx(25 / 26, rel=0.05)
    assert len(found.tokens.standing_out) == 1
    assert found.sinks.n_rows == N // 100


def test_equal_sums_give_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        health_of(folder, plain())
    assert (first / health.FILE).read_bytes() == (second / health.FILE).read_bytes()


@pytest.mark.parametrize("x", [torch.zeros(N, D), torch.ones(N, D)], ids=["zero", "equal"])
def test_rows_without_variance_have_a_health(tmp_path: Path, x: torch.Tensor) -> None:
    found = health_of(tmp_path, x)
    assert found.gamma in (0.0, 1e12)


def test_what_is_missing_damaged_or_newer_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="harvest again"):
        health.read(tmp_path)
    (tmp_path / health.FILE).write_text('{"format": 99, "other": 1}')
    with pytest.raises(WorldError, match="format 99"):
        health.read(tmp_path)
    (tmp_path / health.FILE).write_text('{"format": 1, "sites": 3}')
    with pytest.raises(WorldError, match="damaged"):
        health.read(tmp_path)
