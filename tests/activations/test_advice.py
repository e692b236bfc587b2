"""The advice names what was planted, gives the key that follows, and predicts how many latents are born silent."""

import numpy as np
import pytest
import torch

from sae.activations.advice import Advice, Level, Topic, advise
from sae.activations.health_records import SiteHealth
from sae.activations.measuring import measured
from sae.activations.silent import Shape, silent_share
from sae.activations.sums import SiteSums
from sae.core.random import generator
from sae.training import TrainConfig, untrained

N, D, WINDOW, VOCABULARY = 16_384, 32, 64, 100
SHAPE = Shape(d_sae=256, l0=8)
POSITIONS = np.arange(N, dtype=np.int32) % WINDOW
IDS = np.random.default_rng(0).integers(0, VOCABULARY - 1, N).astype(np.int32)
FIRST = torch.arange(N) % WINDOW == 0
SCATTERED = torch.rand(N, generator=generator(7)) < 0.02


def rows(gamma: float = 0.0) -> torch.Tensor:
    """Normal rows about a mean of γ standard deviations."""
    direction = torch.nn.functional.normalize(torch.randn(D, generator=generator(4)), dim=0)
    return torch.randn(N, D, generator=generator(3)) + gamma * D**0.5 * direction


def health_of(x: torch.Tensor, ids: np.ndarray = IDS) -> SiteHealth:
    sums = SiteSums(D, VOCABULARY, WINDOW)
    for first in range(0, N, 1024):
        part = slice(first, first + 1024)
        sums.update(x[part], POSITIONS[part], ids[part])
    return measured(sums, lambda token: f"<{token}>")


def advice_of(health: SiteHealth) -> dict[Topic, Advice]:
    return {advice.topic: advice for advice in advise("embed", health, SHAPE)}


def with_outlier(x: torch.Tensor, where: torch.Tensor, dimension: int, by: float) -> torch.Tensor:
    x = x.clone()
    x[where, dimension] += by
    return x


def test_plain_rows_need_nothing_but_the_default() -> None:
    found = advice_of(health_of(rows()))
    assert set(found) == {"mean", "sinks", "scale"}
    assert all(advice.level == "fine" for advice in found.values())
    assert {advice.key for advice in found.values()} == {"", "train.scale"}


@pytest.mark.parametrize(("gamma", "level"), [(0.3, "fine"), (0.8, "note"), (2.0, "trouble"), (50.0, "trouble")])
def test_a_mean_is_rated_by_what_it_kills(gamma: float, level: Level) -> None:
    mean = advice_of(health_of(rows(gamma)))["mean"]
    assert mean.level == level
    assert (mean.key, mean.value) == (("", "") if level == "fine" else ("train.scale", "auto"))
    assert mean.numbers["silent_share"] == pytest.approx(silent_share(gamma, SHAPE, N), abs=0.02)


@pytest.mark.parametrize(("where", "key"), [(FIRST, "harvest.exclude.first"), (SCATTERED, "harvest.exclude.high_norm")])
def test_sinks_are_filtered_by_where_they_lie(where: torch.Tensor, key: str) -> None:
    found = advice_of(health_of(with_outlier(rows(), where, 3, 400.0)))
    assert (found["sinks"].level, found["sinks"].key) == ("trouble", key)
    assert "positions" not in found


def test_a_mean_that_sinks_hide_is_found() -> None:
    health = health_of(with_outlier(rows(3.0), SCATTERED, 3, 4000.0))
    assert health.gamma < 1
    mean = advice_of(health)["mean"]
    assert mean.level == "trouble"
    assert "sinks hide the mean" in mean.words
    assert mean.numbers["silent_share"] == pytest.approx(silent_share(3.0, SHAPE, N), abs=0.02)


def test_the_scale_it_foretells_is_that_of_the_ordinary_rows() -> None:
    x = rows(2.0) * 50
    plain = advice_of(health_of(x))["scale"]
    beside_sinks = advice_of(health_of(with_outlier(x, SCATTERED, 3, 1e5)))["scale"]
    exact = D**0.5 / float((x - x.mean(0)).square().sum(1).mean().sqrt())
    assert plain.numbers["factor"] == pytest.approx(exact, rel=0.01)
    assert beside_sinks.numbers["factor"] == pytest.approx(exact, rel=0.03)
    assert plain.level == "note"


def test_first_positions_of_another_length_are_named() -> None:
    x = rows()
    x[torch.from_numpy(POSITIONS < 2)] *= 5
    found = advice_of(health_of(x))["positions"]
    assert (found.key, found.value) == ("harvest.exclude.first", "2")
    assert "positions 0, 1 " in found.words
    x = rows()
    x[torch.from_numpy((POSITIONS >= 8) & (POSITIONS < 16))] /= 5
    found = advice_of(health_of(x))["positions"]
    assert (found.key, found.level) == ("", "note")
    assert "8–15" in found.words


@pytest.mark.parametrize(("times", "level"), [(50.0, "trouble"), (4.0, "note")])
def test_a_long_token_is_named(times: float, level: Level) -> None:
    x, ids = rows(), IDS.copy()
    ids[::100] = VOCABULARY - 1
    x[::100] *= times
    found = advice_of(health_of(x, ids))["tokens"]
    assert f"'<{VOCABULARY - 1}>'" in found.words
    assert (found.level, found.key) == (level, "harvest.exclude.high_norm" if level == "trouble" else "")


def test_outlier_dimensions_are_told_apart_by_their_cause() -> None:
    still, moving = rows(), rows()
    still[:, 5] += 30
    moving[:, 5] *= 30
    found, other = advice_of(health_of(still)), advice_of(health_of(moving))
    assert "centring takes away" in found["dimensions"].words
    assert "spectrum" not in found
    assert "they vary" in other["dimensions"].words
    assert other["spectrum"].numbers["first_share"] > 0.9


@pytest.mark.parametrize("x", [torch.zeros(N, D), torch.ones(N, D)], ids=["zero", "equal"])
def test_rows_without_variance_have_advice(x: torch.Tensor) -> None:
    assert advice_of(health_of(x))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0, 20.0])
def test_the_prediction_is_what_an_uncentred_start_gives(gamma: float) -> None:
    x, shares = rows(gamma), []
    for seed in range(4):
        config = TrainConfig(d_sae=SHAPE.d_sae, l0=SHAPE.l0, scale="none", seed=seed)
        shares.append(float((~untrained(x[:4096], config).encode(x).fired().bool()).double().mean()))
    error = float(np.std(shares, ddof=1)) + 0.02  # two standard errors of four, and what the formula leaves out
    assert silent_share(gamma, SHAPE, N) == pytest.approx(float(np.mean(shares)), abs=error)


def test_the_prediction_grows_with_gamma_to_its_bound() -> None:
    shares = [silent_share(gamma, SHAPE, N) for gamma in (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 1e6)]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0)
    assert shares[-1] == pytest.approx(1 - SHAPE.l0 / SHAPE.d_sae, abs=1e-4)
    assert silent_share(5.0, Shape(8, 8), N) == 0, "all latents fire at every token"


def test_every_part_of_the_advice_is_plain_json() -> None:
    for advice in advise("embed", health_of(with_outlier(rows(3.0), SCATTERED, 3, 4000.0))):
        assert Advice.model_validate_json(advice.model_dump_json()) == advice
        assert all(np.isfinite(number) for number in advice.numbers.values())
