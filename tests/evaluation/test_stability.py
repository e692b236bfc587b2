"""Laws of stability: copies are stable, strangers are at chance, intervals say what they are over."""

import numpy as np
import pytest

from sae.core.errors import InputError
from sae.core.matching import Rows
from sae.core.random import numpy_generator
from sae.evaluation.stability import stability


def rows(n: int, *names: int) -> Rows:
    return numpy_generator(0, "rows", *names).normal(size=(n, 48))


def partly_shared(n: int, seed: int) -> Rows:
    """A third of the rows is the same for every seed, in another order."""
    own = np.concatenate([rows(n // 3, 99), rows(n - n // 3, seed)])
    return numpy_generator(seed, "order").permutation(own)


@pytest.mark.parametrize("n_seeds", [2, 3, 4])
def test_shuffled_copies_are_wholly_stable_and_strangers_at_chance(n_seeds: int) -> None:
    copies = stability([numpy_generator(seed).permutation(rows(120)) for seed in range(n_seeds)])
    assert copies.share.model_dump() == {"value": 1, "low": 1, "high": 1, "detectable": None}
    assert copies.mean_cosine.value == pytest.approx(1)
    assert copies.chance_share == 0
    strangers = stability([rows(120, seed) for seed in range(n_seeds)])
    assert strangers.share.value == strangers.chance_share == 0
    assert strangers.mean_cosine.value == pytest.approx(strangers.chance_mean_cosine, abs=0.02)


@pytest.mark.parametrize("n_seeds", [2, 3])
def test_the_shared_third_is_found(n_seeds: int) -> None:
    found = stability([partly_shared(150, seed) for seed in range(n_seeds)])
    assert found.share.value == pytest.approx(1 / 3)
    assert found.share.low is not None
    assert found.share.high is not None
    assert found.share.low <= 1 / 3 <= found.share.high
    assert found.share.low > found.chance_share
    assert found.resampled == ("latents" if n_seeds == 2 else "seeds")
    assert found.n_latents == (150,) * n_seeds


def test_resampled_seeds_span_the_pairs() -> None:
    """One seed unlike the two others: the interval reaches from the worst pair to the best."""
    a = rows(60)
    found = stability([a, a[::-1].copy(), rows(60, 1)])
    assert found.share.model_dump() == {"value": pytest.approx(1 / 3), "low": 0, "high": 1, "detectable": None}


def test_the_order_of_seeds_does_not_matter_for_the_value() -> None:
    sets = [partly_shared(90, seed) for seed in range(3)]
    there, back = stability(sets), stability(sets[::-1])
    assert there.share.value == pytest.approx(back.share.value)
    assert there.mean_cosine.value == pytest.approx(back.mean_cosine.value)


def test_one_seed_has_no_stability() -> None:
    with pytest.raises(InputError, match="at least two seeds, got 1"):
        stability([rows(10)])
