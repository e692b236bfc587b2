"""Scores say 1 of the truth itself, chance of random rows, and nothing of the order and length of latents."""

import numpy as np
import pytest
import torch

import sae
from sae.core.errors import InputError
from sae.dictionary import Dictionary, DictionaryConfig, TopK
from sae.kernels import Code, DenseCode
from sae.synthetic import Truth, TruthConfig, controls, pairing, truth_scores
from sae.synthetic.tallies import UNIT
from sae.training import TrainConfig

N = 3 * UNIT
PERFECT = {"mcc": 1, "found": 1, "uniqueness": 1, "precision": 1, "recall": 1, "f1": 1, "f1_own": 1, "size_ratio": 1}
PERFECT |= {"dead_fraction": 0, "absorbed": 0, "silent_alone": 0}
STREAMS = "test"


class Knowing:
    """The truth as a dictionary: its latents are the features in another order, with decoder rows of another length."""

    def __init__(self, truth: Truth, order: torch.Tensor, lengths: torch.Tensor) -> None:
        self._truth, self._order, self._lengths, self._next = truth, order, lengths, 0
        self.W_dec = truth.directions[order] * lengths[:, None]

    def encode(self, x: torch.Tensor, /) -> Code:
        start, self._next = self._next, self._next + len(x)
        return DenseCode(self._truth.stream(STREAMS).codes(start, self._next).dense()[:, self._order] / self._lengths)

    def decode(self, code: Code, /) -> torch.Tensor:
        return code.dense() @ self.W_dec + self._truth.offset


def orders(n: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    return {
        "itself": (torch.arange(n), torch.ones(n)),
        "permuted": (torch.randperm(n, generator=g), torch.ones(n)),
        "rescaled": (torch.randperm(n, generator=g), 0.1 + 3 * torch.rand(n, generator=g)),
    }


@pytest.mark.parametrize("which", ["itself", "permuted", "rescaled"])
def test_the_truth_itself_is_perfect(small, which):
    scores = truth_scores(small.stream(STREAMS), Knowing(small, *orders(60)[which]), N)
    for name, value in PERFECT.items():
        assert scores[name] == pytest.approx(value, abs=1e-6), name
        interval = scores.numbers[name].interval
        assert interval is not None
        assert interval.low - 1e-6 <= value <= interval.high + 1e-6
    assert scores["norm_ratio"] == pytest.approx(1, abs=0.01)
    assert scores["l0"] == pytest.approx(small.l0, rel=0.05)
    assert scores["fvu"] < 0.01
    assert (scores.n_rows, scores.n_features, scores.n_latents) == (N, 60, 60)


def test_half_of_the_truth_is_half_found(small):
    half = (torch.arange(0, 60, 2), torch.ones(30))
    scores = truth_scores(small.stream(STREAMS), Knowing(small, *half), N)
    assert scores["mcc"] == pytest.approx(1, abs=1e-6)
    assert scores["found"] == pytest.approx(0.5)
    assert scores["f1"] == pytest.approx(1)
    assert scores["f1_own"] == pytest.approx(0.5)


def test_latents_that_stand_for_one_feature_are_not_unique(small):
    twice = (torch.arange(60).repeat(2), torch.ones(120))
    scores = truth_scores(small.stream(STREAMS), Knowing(small, *twice), N)
    assert scores["uniqueness"] == pytest.approx(0.5)
    assert scores["mcc"] == pytest.approx(1, abs=1e-6)


def test_random_rows_are_at_chance_and_true_directions_above():
    data = Truth(TruthConfig(d=32, n_features=100, highest=0.2, n_trees=1, depth=2, correlation_rank=2))
    scores = controls(data.stream("test"), n_latents=100, k=round(data.l0), n_rows=N)
    g = torch.Generator().manual_seed(5)
    others = [pairing.paired(data.directions, torch.randn(100, 32, generator=g)).cosines.mean() for _ in range(8)]
    assert abs(scores["random"]["mcc"] - np.mean(others)) < 5 * np.std(others)
    assert scores["random"]["found"] == 0
    assert scores["random"]["f1"] < 0.5 * scores["true_directions"]["f1"] < 0.5
    assert scores["true_directions"]["mcc"] == pytest.approx(1, abs=1e-6)


def test_a_latent_that_takes_its_parents_place_is_absorbed(small):
    """A child's latent writes the parent's direction too, and the parent's latent is silent there."""
    knowing = Knowing(small, *orders(60)["itself"])
    parents = torch.from_numpy(small.forest.parents)
    children = (parents == 0).nonzero().flatten()

    class Absorbing(Knowing):
        def encode(self, x, /):
            values = knowing.encode(x).dense().clone()
            values[:, 0] *= ~(values[:, children] > 0).any(1)
            return DenseCode(values)

    scores = truth_scores(small.stream(STREAMS), Absorbing(small, *orders(60)["itself"]), N)
    assert 0 < scores["absorbed"] < 1
    assert scores["silent_alone"] == 0
    assert scores["recall"] < 1


def test_sparse_assignment_is_the_optimal_one_where_the_best_are_near(small, monkeypatch):
    g = torch.Generator().manual_seed(1)
    rows = small.directions[torch.randperm(60, generator=g)] + 0.1 * torch.randn(60, 24, generator=g)
    dense = pairing.paired(small.directions, rows)
    monkeypatch.setattr(pairing, "MOST_ASSIGNED", 0)
    sparse = pairing.paired(small.directions, rows)
    assert torch.equal(dense.latents, sparse.latents)
    torch.testing.assert_close(dense.cosines, sparse.cosines)
    monkeypatch.setattr(pairing, "N_NEAREST", 1)
    least = pairing.paired(small.directions, torch.randn(60, 24, generator=g))
    assert (least.latents == pairing.NOBODY).any()
    taken = least.latents[least.latents != pairing.NOBODY]
    assert len(taken.unique()) == len(taken)


def test_a_trained_dictionary_finds_more_than_chance_and_knows_it():
    data = Truth(TruthConfig(d=16, n_features=24, highest=0.2, lowest=0.05))
    x = data.stream().rows(0, 25_600)
    config = TrainConfig(preset="topk", d_sae=24, l0=3, tokens=38_400, batch=256, learning_rate=2e-2)
    scores = truth_scores(data.stream("test"), sae.train(x, config).finish(), N)
    beside = controls(data.stream("test"), 24, 3, N)
    assert scores["mcc"] > 0.8 > beside["random"]["mcc"] + 0.2
    assert scores["f1"] > beside["random"]["f1"] + 0.1
    assert scores.numbers["absorbed"].value is None


def test_another_width_and_too_few_rows_are_refused(small):
    other = Dictionary(DictionaryConfig(d_in=8, d_out=8, d_sae=4, activation=TopK(k=1)))
    with pytest.raises(InputError, match="width 24, the dictionary 8"):
        truth_scores(small.stream(), other, N)
    with pytest.raises(InputError, match="at least 2048 rows"):
        truth_scores(small.stream(), Knowing(small, *orders(60)["itself"]), UNIT)
    broken = Knowing(small, torch.arange(60), torch.full((60,), torch.nan))
    with pytest.raises(InputError, match="not finite"):
        truth_scores(small.stream(), broken, N)
