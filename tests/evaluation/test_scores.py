"""Laws of the scores, on sums that are made up."""

import json

import numpy as np
import torch

from sae.core.measures import fvu
from sae.evaluation.firing import FiringDocuments
from sae.evaluation.scores import Score, Scores, score
from sae.evaluation.sums import ContenderSums, TextSums


def sums_of(x: np.ndarray, documents: np.ndarray, n_documents: int, ce: np.ndarray, centre: float = 0.3) -> TextSums:
    by_document = np.eye(n_documents)[documents].T
    centred = x - centre
    squares = by_document @ np.square(centred).sum(1)
    n_tokens = by_document.sum(1)
    return TextSums(n_tokens, squares, by_document @ centred, n_tokens, ce)


def contender(squared_error: np.ndarray, ce: np.ndarray, n_latents: int = 0) -> ContenderSums:
    zeros = np.zeros_like(ce)
    return ContenderSums(squared_error, zeros, ce, zeros, FiringDocuments(n_latents))


def example(seed: int = 0, n_documents: int = 30) -> tuple[TextSums, dict[str, ContenderSums], np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    documents = np.sort(np.concatenate([np.arange(n_documents), random.integers(0, n_documents, 200)]))
    x = random.normal(size=(len(documents), 5)) + 2
    y = x + 0.5 * random.normal(size=x.shape)
    by_document = np.eye(n_documents)[documents].T
    ce = by_document.sum(1) * (1 + random.random(n_documents))
    text = sums_of(x, documents, n_documents, ce)
    errors = by_document @ np.square(x - y).sum(1)
    contenders = {
        "dictionary": contender(errors, ce * 1.1, n_latents=4),
        "mean_ablation": contender(errors * 4, ce * 2),
        "zero_ablation": contender(errors * 9, ce * 3),
    }
    return text, contenders, x, y


def test_fvu_from_sums_is_the_definition():
    text, contenders, x, y = example()
    scores = score(text, contenders, seed=0)
    expected = fvu(torch.from_numpy(x), torch.from_numpy(y))
    found = scores.contenders["dictionary"]["fvu"].value
    assert found is not None
    assert abs(found - expected) < 1e-9


def test_floors_recover_nothing_and_the_value_lies_in_its_interval():
    text, contenders, _, _ = example()
    scores = score(text, contenders, seed=0)
    assert scores.contenders["zero_ablation"]["ce_loss_recovered"] == Score(value=0, low=0, high=0)
    assert scores.contenders["mean_ablation"]["ce_loss_recovered_mean"] == Score(value=0, low=0, high=0)
    for table in (scores.model, *scores.contenders.values(), *scores.differences.values()):
        for metric, one in table.items():
            assert one.value is not None, metric
            assert one.low is not None
            assert one.high is not None
            assert one.low - 1e-12 <= one.value <= one.high + 1e-12, metric


def test_recovered_loss_is_the_definition():
    text, contenders, _, _ = example()
    recovered = score(text, contenders, seed=0).contenders["dictionary"]["ce_loss_recovered"]
    assert recovered.value is not None
    assert abs(recovered.value - (3 - 1.1) / (3 - 1)) < 1e-9
    # Every document has the same ratio here, so every resample has.
    assert recovered.low is not None
    assert abs(recovered.low - recovered.value) < 1e-9


def test_differences_are_paired_over_documents():
    """Two contenders whose errors differ by a constant share: the spread that they have in common cancels."""
    text, contenders, _, _ = example()
    one = contenders["dictionary"]
    twin = contender(one.squared_error * 1.0001, one.ce)
    scores = score(text, {"dictionary": one, "twin": twin}, seed=0)
    own, difference = scores.contenders["dictionary"]["fvu"], scores.differences["twin"]["fvu"]
    assert difference.high is not None
    assert difference.low is not None
    assert own.high is not None
    assert own.low is not None
    assert difference.high < 0
    assert difference.high - difference.low < (own.high - own.low) / 100
    assert set(scores.differences["twin"]) == {"fvu", "delta_ce_nats"}


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth, inside, n_trials = 0.25, 0, 60
    for trial in range(n_trials):
        text, contenders, _, _ = example(seed=100 + trial, n_documents=40)
        interval = score(text, contenders, seed=trial, n_resamples=300).contenders["dictionary"]["fvu"]
        assert interval.low is not None
        assert interval.high is not None
        inside += interval.low <= truth <= interval.high
    assert 0.82 <= inside / n_trials <= 1


def test_what_is_undefined_is_null_and_said():
    """Equal activations, an ablation without effect, one document: notes, no crash, no NaN."""
    n = np.ones(1) * 10
    text = TextSums(n, n * 0.49, np.full((1, 1), 7.0), n, n * 2)
    same = contender(np.zeros(1), n * 2, n_latents=3)
    scores = score(text, {"dictionary": same, "zero_ablation": same}, seed=0)
    own = scores.contenders["dictionary"]
    assert own["fvu"] == own["ce_loss_recovered"] == Score(value=None, low=None, high=None)
    assert own["dead_fraction"] == Score(value=1, low=None, high=None)
    assert any("fvu" in note for note in scores.notes)
    assert any("at least two documents" in note for note in scores.notes)
    assert "NaN" not in scores.model_dump_json()
    assert Scores.model_validate(json.loads(scores.model_dump_json())) == scores


def test_the_same_seed_gives_the_same_intervals():
    text, contenders, _, _ = example()
    assert score(text, contenders, seed=3) == score(text, contenders, seed=3)
    assert score(text, contenders, seed=3) != score(text, contenders, seed=4)
