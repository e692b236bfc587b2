"""Micro-batches: equal to the big batch where the loss is a mean over tokens, and as documented where it is not."""

from typing import Any

import pytest
import torch

from sae.core.errors import InputError
from sae.dictionary import BatchTopK, Part
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import State, TrainConfig, initial, loop
from sae.training.loop import recipe_of
from sae.training.optimiser import adam
from sae.training.places import Itself, Places, one_site
from sae.training.step import Stepped, step

BATCH = 65
DATA = Synthetic(SyntheticConfig(d=16, n_directions=32, l0=3), batch=BATCH)
TOKEN_MEANS: dict[str, dict[str, Any]] = {
    "topk": {},
    "topk, several k": {"multi_topk": True},
    "relu": {"preset": "relu"},
    "jumprelu": {"preset": "jumprelu"},
    "jumprelu, tanh": {"preset": "jumprelu", "penalty": "tanh"},
    "gated": {"preset": "gated"},
    "matching pursuit": {"preset": "matching_pursuit"},
    "transcoder": {"preset": "transcoder", "skip": True},
    "crosscoder": {"preset": "crosscoder"},
}
COUPLED: dict[str, dict[str, Any]] = {
    "AuxK": {"auxk_coefficient": 1 / 32},
    "batchtopk": {"preset": "batchtopk"},
    "matryoshka": {"preset": "matryoshka"},
    "jumprelu, quadratic": {"preset": "jumprelu", "penalty": "quadratic"},
}


def config(changes: dict[str, Any], accumulate: int) -> TrainConfig:
    given = {
        "d_sae": 48,
        "l0": 4,
        "tokens": 12 * BATCH,
        "batch": BATCH,
        "learning_rate": 3e-3,
        "log_every_steps": 1,
        "auxk_coefficient": 0,
        "dead_after_tokens": 4 * BATCH,
        "accumulate": accumulate,
    }
    return TrainConfig.model_validate(given | changes)


def places(preset: str) -> Places:
    if preset not in ("transcoder", "crosscoder"):
        return one_site(16)
    half = Part(site="a", d=8), Part(site="b", d=8)
    return Places(source=half[:1], target=half[1]) if preset == "transcoder" else Places(source=half, target=Itself())


def start(config: TrainConfig) -> State:
    """The first state in float64; some latents dead before the first step, so that what is done to them is done."""
    state = initial(DATA.batch(10_000), config, places(config.preset))
    state.dictionary.double()
    state.optimiser = adam(state.dictionary)
    state.tokens_since_fired[:16] = 10**6
    return state


class Double:
    def batch(self, step: int) -> torch.Tensor:
        return DATA.batch(step).double()


def train(config: TrainConfig) -> tuple[State, list[dict[str, float]]]:
    state = start(config)
    said = [done.metrics for done in loop(state, Double(), config)]
    return state, [{key: value for key, value in m.items() if key != "tokens_per_second"} for m in said]


@pytest.mark.parametrize("name", TOKEN_MEANS)
def test_micro_batches_equal_the_big_batch(name: str) -> None:
    """Every metric of every step, parameters and counters; 65 tokens in four parts of unequal size."""
    whole, said = train(config(TOKEN_MEANS[name], 1))
    parts, also_said = train(config(TOKEN_MEANS[name], 4))
    for one, other in zip(said, also_said, strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9)
    for key, value in whole.dictionary.state_dict().items():
        torch.testing.assert_close(parts.dictionary.state_dict()[key], value, rtol=1e-9, atol=1e-9)
    assert torch.equal(whole.tokens_since_fired, parts.tokens_since_fired)
    assert said[-1]["loss"] != said[0]["loss"]


def first_step(changes: dict[str, Any], accumulate: int, x: torch.Tensor) -> tuple[State, Stepped]:
    chosen = config(changes, accumulate)
    state = start(chosen)
    return state, step(state, x, recipe_of(state, chosen))


@pytest.mark.parametrize("name", COUPLED)
def test_terms_that_couple_tokens_are_of_each_micro_batch(name: str) -> None:
    """A step in two parts has the mean of the two parts' own losses: as documented, not that of the big batch."""
    x = Double().batch(0)[:64]
    x[:32] *= 3
    whole, parts = (first_step(COUPLED[name], n, x)[1].terms for n in (1, 2))
    halves = [first_step(COUPLED[name], 1, half)[1].terms for half in x.split(32)]
    torch.testing.assert_close(parts.total, torch.stack([half.total for half in halves]).mean())
    torch.testing.assert_close(parts.l0, torch.stack([half.l0 for half in halves]).mean())
    assert not torch.isclose(parts.total, whole.total, rtol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_batchtopk_selects_k_a_token_in_every_part_and_its_threshold_follows(accumulate: int) -> None:
    state, done = first_step(COUPLED["batchtopk"], accumulate, 10 * Double().batch(0))
    assert isinstance(state.dictionary.config.activation, BatchTopK)
    assert float(done.terms.l0) == pytest.approx(4, abs=0.05)
    assert done.terms.n_smallest == accumulate
    before = start(config(COUPLED["batchtopk"], 1)).dictionary.threshold
    mean = done.terms.smallest / accumulate
    torch.testing.assert_close(state.dictionary.threshold, torch.lerp(before, mean.to(before), 0.1))


def test_more_micro_batches_than_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="accumulate 66 is larger than batch 65"):
        config({}, 66)
    with pytest.raises(InputError, match="accumulate 5: there are only 3 tokens"):
        first_step({}, 5, Double().batch(0)[:3])
