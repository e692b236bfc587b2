"""Absorption: found where it is planted, nowhere in the true dictionary, whatever the order and scale of latents."""

from typing import NamedTuple

import numpy as np
import pytest
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from sae.evaluation.absorbed_classes import absorption_of
from sae.evaluation.absorption import Absorbed, ClassTokens, Placed, absorbed, absorbed_fraction
from sae.evaluation.nouns import LEVELS, children
from sae.microworld import nouns_of

N_CHILDREN, D, N_DOCUMENTS = 4, 32, 30


class World(NamedTuple):
    """A class with four children, and tokens outside of it; directions are orthonormal."""

    child: Int[np.ndarray, "token"]
    truth: Float[np.ndarray, "token feature"]
    """The parent's activation, then each child's, then those of two strangers."""
    directions: Float[np.ndarray, "feature d"]


def world(seed: int, n_tokens: int = 900) -> World:
    random = np.random.default_rng(seed)
    child = random.integers(-1, N_CHILDREN, n_tokens)
    truth = np.zeros((n_tokens, 1 + N_CHILDREN + 2))
    size = random.uniform(0.8, 1.2, n_tokens)
    inside = child >= 0
    truth[inside, 0] = size[inside]
    truth[inside, 1 + child[inside]] = 0.7
    outside = np.flatnonzero(~inside)
    truth[outside, 1 + N_CHILDREN + random.integers(0, 2, len(outside))] = 1
    return World(child, truth, np.linalg.qr(np.random.default_rng(9).normal(size=(D, D)))[0][: truth.shape[1]])


def placed(found: World, code: Float[np.ndarray, "token latent"]) -> Placed:
    documents = np.arange(len(code)) % N_DOCUMENTS
    return Placed(
        (ClassTokens("class", "leaf", found.child),), csr_array(code), found.truth @ found.directions, documents
    )


def absorbing(found: World, child: int) -> Float[np.ndarray, "token feature"]:
    """The parent's latent is silent on one child, whose own latent writes the parent too."""
    code = found.truth.copy()
    code[found.child == child, 0] = 0
    return code


def absorbing_decoder(directions: Float[np.ndarray, "feature d"], child: int) -> Float[np.ndarray, "feature d"]:
    decoder = directions.copy()
    decoder[1 + child] += directions[0] / 0.7
    return decoder


def judged(codes: list[Float[np.ndarray, "token latent"]], decoder: Float[np.ndarray, "latent d"]) -> Absorbed:
    choose, judge = (placed(world(seed), code) for seed, code in enumerate(codes))
    (one,) = absorbed(choose, judge, decoder, N_DOCUMENTS)
    return one


def share(one: Absorbed, silent: bool = False) -> float:
    return float(absorbed_fraction(np.ones((1, N_DOCUMENTS)), [one], silent)[0])


def test_the_true_dictionary_absorbs_nothing():
    one = judged([world(seed).truth for seed in (0, 1)], world(0).directions)
    assert one.chosen.latent == 0
    assert one.chosen.youden == 1
    assert share(one) == share(one, silent=True) == 0


@pytest.mark.parametrize("child", range(N_CHILDREN))
def test_planted_absorption_is_found_to_its_last_token(child: int):
    decoder = absorbing_decoder(world(0).directions, child)
    one = judged([absorbing(world(seed), child) for seed in (0, 1)], decoder)
    taken = world(1).child
    assert one.chosen.latent == 0
    assert share(one) == share(one, silent=True) == pytest.approx((taken == child).sum() / (taken >= 0).sum())


def test_silence_that_nobody_fills_is_not_absorption():
    """The parent is silent on a child whose latent does not write the parent: missed, not absorbed."""
    one = judged([absorbing(world(seed), 2) for seed in (0, 1)], world(0).directions)
    assert share(one, silent=True) > 0.15
    assert share(one) == 0


def test_a_class_without_a_latent_is_not_found_and_not_absorbed():
    codes = [world(seed).truth.copy() for seed in (0, 1)]
    for code in codes:
        code[:, 0] = 0
    one = judged(codes, world(0).directions)
    assert not one.chosen.is_found
    assert np.isnan(share(one))
    record = absorption_of([one], np.ones((3, N_DOCUMENTS)))
    assert record.n_found == 0
    assert record.absorbed.value is None


def test_the_order_of_latents_and_scales_change_nothing():
    decoder = absorbing_decoder(world(0).directions, 1)
    codes = [absorbing(world(seed), 1) for seed in (0, 1)]
    order = np.random.default_rng(3).permutation(len(decoder))
    scale = np.random.default_rng(4).uniform(0.1, 9, len(decoder))
    one = judged(codes, decoder)
    other = judged([(code * scale)[:, order] for code in codes], (decoder / scale[:, None])[order])
    assert order[other.chosen.latent] == one.chosen.latent
    np.testing.assert_array_equal(other.n_absorbed, one.n_absorbed)


def test_the_interval_of_absorption_is_over_documents():
    decoder = absorbing_decoder(world(0).directions, 1)
    one = judged([absorbing(world(seed), 1) for seed in (0, 1)], decoder)
    weights = np.random.default_rng(0).multinomial(N_DOCUMENTS, np.full(N_DOCUMENTS, 1 / N_DOCUMENTS), 200)
    record = absorption_of([one], weights.astype(float))
    assert record.absorbed.low is not None
    assert record.absorbed.high is not None
    assert record.absorbed.value == share(one)
    assert record.absorbed.low < share(one) < record.absorbed.high
    (own,) = record.classes
    assert own.absorbed == record.absorbed
    assert own.n_tokens == int((world(1).child >= 0).sum())


def test_the_taxonomy_gives_every_class_its_children():
    """Each class's children divide its nouns, and there are three levels of classes."""
    found = children()
    assert tuple(dict.fromkeys(level for level, _ in found)) == LEVELS
    for (_, name), several in found.items():
        words = [word for child in several for word in dict.fromkeys(child)]
        assert sorted(words) == sorted(nouns_of(name))
        assert len(several) >= 2
