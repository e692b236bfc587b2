"""Laws of comparing dictionaries: nothing differs from itself, pairs see more than strangers, noise is called noise."""

import re
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sae.core.errors import InputError
from sae.core.uncertainty import difference_p, holm, resampling_weights
from sae.evaluation.comparison import Comparison, Evaluated, Pair, compare
from sae.evaluation.scorecard import Scorecard
from sae.evaluation.scores import score_of

N_DOCUMENTS, N_RESAMPLES = 40, 300


def evaluated(name: str, losses: np.ndarray, l0: float = 8.0, **changes: Any) -> Evaluated:
    """A dictionary whose FVU is the mean of a number that every document has."""
    weights = resampling_weights(len(losses), N_RESAMPLES, 0) / len(losses)
    resamples = {"fvu": weights @ losses, "l0": np.full(N_RESAMPLES, float(l0))}
    values = {"fvu": float(losses.mean()), "l0": float(l0)}
    card = {
        "site": "embed",
        "split": "test",
        "n_documents": len(losses),
        "n_tokens": 10 * len(losses),
        "geometry": {},
        "absorption": {},
        "probing": (),
        "settings": {"n_resamples": N_RESAMPLES, "seed": 0, "concepts": ""},
        "model": {},
        "contenders": {"dictionary": {m: score_of(values[m], resamples[m]) for m in values}},
        "differences": {},
        "densities": {},
        "notes": (),
    }
    activations = changes.pop("activations", "a" * 16)
    return Evaluated(name, name[0] * 16, activations, Scorecard(**{**card, **changes}), resamples)


def documents(seed: int = 0, spread: float = 1.0, n: int = N_DOCUMENTS) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, spread, n)


def only(comparison: Comparison) -> Pair:
    (pair,) = comparison.pairs
    return pair


def test_a_dictionary_does_not_differ_from_itself():
    one = evaluated("one", documents())
    pair = only(compare([one, one._replace(name="copy")]))
    assert pair.difference.model_dump() == {"value": 0, "low": 0, "high": 0, "detectable": 0}
    assert pair.p == pair.p_adjusted == 1
    assert not pair.is_real
    assert pair.better is pair.n_documents_needed is None
    assert compare([one, one]).beaten_by == {"fvu": ((), ())}


def test_pairs_see_what_strangers_do_not():
    """Documents differ far more than the dictionaries do; on the same documents that spread cancels."""
    shared, own = documents(), documents(1, 0.05) - 3
    one, other = evaluated("one", shared), evaluated("other", shared + 0.1 + own)
    pair = only(compare([one, other]))
    assert pair.is_real
    assert pair.better == 0
    assert pair.difference.detectable is not None
    alone = [e.card.contenders["dictionary"]["fvu"].detectable or 0 for e in (one, other)]
    assert pair.difference.detectable < np.linalg.norm(alone) / 10


def test_equal_dictionaries_are_called_different_as_seldom_as_said():
    """Four dictionaries that differ by noise alone: one of the six pairs is called real in about 5 % of all texts."""
    found, n_trials = 0, 50
    for trial in range(n_trials):
        shared = documents(1000 * trial)
        each = [evaluated(str(i), shared + documents(1000 * trial + i + 1, 0.3)) for i in range(4)]
        found += any(pair.is_real for pair in compare(each).pairs)
    assert found / n_trials <= 0.14


def test_the_documents_needed_are_enough():
    """A difference that is not seen in some documents is seen in as many as the comparison asks for."""
    noise = documents(2, 0.3, 4000)
    shared = documents(3, 1, 4000)
    few = slice(0, 30)
    pair = only(compare([evaluated("a", shared[few]), evaluated("b", shared[few] + noise[few] - 2.95)]))
    assert pair.n_documents_needed is not None
    assert not pair.is_real
    assert 30 < pair.n_documents_needed < 4000
    many = slice(0, 4 * pair.n_documents_needed)
    assert only(compare([evaluated("a", shared[many]), evaluated("b", shared[many] + noise[many] - 2.95)])).is_real


def test_one_is_beaten_only_by_what_is_no_denser_and_really_better():
    shared = documents()
    good, bad = shared, shared + 1 + documents(1, 0.05) - 3
    better_at_equal = compare([evaluated("a", good, 8), evaluated("b", bad, 8)])
    assert better_at_equal.beaten_by["fvu"] == ((), (0,))
    better_but_denser = compare([evaluated("a", good, 16), evaluated("b", bad, 8)])
    assert better_but_denser.beaten_by["fvu"] == ((), ())
    same = compare([evaluated("a", good, 8), evaluated("b", good + documents(1, 0.05) - 3, 8)])
    assert same.beaten_by["fvu"] == ((), ())


ONE, TWO = (f"{name} (dictionary {name[0] * 16})" for name in ("one", "two"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activations": "b" * 16}, f"{ONE} was scored on the activations {'a' * 16}, {TWO} on {'b' * 16}"),
        ({"site": "final"}, f"{ONE} was scored on the site embed, {TWO} on final"),
        ({"n_tokens": 7}, f"{TWO} on of 40 documents with 7 tokens"),
        ({"settings": {"n_resamples": N_RESAMPLES, "seed": 1}}, "with seed 1"),
    ],
)
def test_what_was_scored_on_something_else_is_refused(changes: dict[str, Any], said: str):
    with pytest.raises(InputError, match=re.escape(said)):
        compare([evaluated("one", documents()), evaluated("two", documents(), **changes)])


def test_too_few_dictionaries_or_documents_are_refused():
    one = evaluated("one", documents())
    with pytest.raises(InputError, match="at least two dictionaries, got 1"):
        compare([one])
    few = evaluated("few", documents(n=19))
    with pytest.raises(InputError, match=r"at least 20 documents, the test split that was scored has 19"):
        compare([few, few])


def test_holm_is_the_published_example_and_never_below_the_p_values():
    """Holm 1979: the smallest of n is multiplied by n, the next by n − 1, and none falls below one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    p = np.random.default_rng(0).random(20).tolist()
    assert all(adjusted >= one for adjusted, one in zip(holm(p), p, strict=True))
    assert max(holm(p)) <= 1


def test_the_p_of_a_difference_is_that_of_a_t_test():
    x = np.random.default_rng(0).normal(0.3, 1, 30)
    error = float(x.std(ddof=1)) / np.sqrt(30)
    assert difference_p(float(x.mean()), error, 30) == pytest.approx(stats.ttest_1samp(x, 0)[1])
    assert difference_p(0.0, 0.0, 30) == 1
    assert difference_p(0.5, 0.0, 30) == 0
