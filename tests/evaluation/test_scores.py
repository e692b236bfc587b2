"""Laws of the scores, on sums that are made up."""

import json

import numpy as np
import pytest
import torch

from sae.core.measures import fvu
from sae.core.uncertainty import resampling_weights
from sae.evaluation.active import Active
from sae.evaluation.metrics import samples_of
from sae.evaluation.scores import DETECTABLE_ERRORS, Score, Scored, Scores
from sae.evaluation.scores import score as scored
from sae.evaluation.sums import ContenderSums, TextSums
from sae.evaluation.usage import LatentUsage


def sums_of(x: np.ndarray, documents: np.ndarray, n_documents: int, ce: np.ndarray, centre: float = 0.3) -> TextSums:
    by_document = np.eye(n_documents)[documents].T
    centred = x - centre
    squares = by_document @ np.square(centred).sum(1)
    n_tokens = by_document.sum(1)
    norms = by_document @ np.linalg.norm(x, axis=1)
    return TextSums(n_tokens, squares, by_document @ centred, norms, n_tokens, ce)


def contender(squared_error: np.ndarray, ce: np.ndarray, n_latents: int = 0) -> ContenderSums:
    zeros = np.zeros_like(ce)
    usage = LatentUsage(np.ones(n_latents), len(ce))
    return ContenderSums(squared_error, zeros, zeros, zeros, zeros, ce, zeros, usage)


def score(text: TextSums, contenders: dict[str, ContenderSums], seed: int, n_resamples: int = 1000) -> Scores:
    return scored(text, contenders, seed, n_resamples).scores


def example(
    seed: int = 0, n_documents: int = 30, n_latents: int = 4
) -> tuple[TextSums, dict[str, ContenderSums], np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    documents = np.sort(np.concatenate([np.arange(n_documents), random.integers(0, n_documents, 200)]))
    x = random.normal(size=(len(documents), 5)) + 2
    y = x + 0.5 * random.normal(size=x.shape)
    by_document = np.eye(n_documents)[documents].T
    ce = by_document.sum(1) * (1 + random.random(n_documents))
    text = sums_of(x, documents, n_documents, ce)
    errors = by_document @ np.square(x - y).sum(1)
    contenders = {
        "dictionary": contender(errors, ce * 1.1, n_latents),
        "mean_ablation": contender(errors * 4, ce * 2),
        "zero_ablation": contender(errors * 9, ce * 3),
    }
    return text, contenders, x, y


def exactly(value: float) -> Score:
    return Score(value=value, low=value, high=value, detectable=0)


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
    assert scores.contenders["zero_ablation"]["ce_loss_recovered"] == exactly(0)
    assert scores.contenders["mean_ablation"]["ce_loss_recovered_mean"] == exactly(0)
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
        text, contenders, _, _ = example(seed=100 + trial, n_documents=40, n_latents=0)
        interval = score(text, contenders, seed=trial, n_resamples=300).contenders["dictionary"]["fvu"]
        assert interval.low is not None
        assert interval.high is not None
        inside += interval.low <= truth <= interval.high
    assert 0.82 <= inside / n_trials <= 1


def test_what_is_undefined_is_null_and_said():
    """Equal activations, an ablation without effect, one document: notes, no crash, no NaN."""
    n = np.ones(1) * 10
    text = TextSums(n, n * 0.49, np.full((1, 1), 7.0), n, n, n * 2)
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


def fired(own: ContenderSums, text: TextSums, latents: np.ndarray, documents: np.ndarray) -> ContenderSums:
    """A contender whose latents fire once on each token of a document that is given."""
    n_active = np.bincount(documents, minlength=len(text.n_tokens)).astype(float)
    values = (1 + latents).astype(np.float32)
    own.usage.update(Active(np.arange(len(latents)), latents, values), documents)
    return ContenderSums(**{**vars(own), "n_active": n_active})


def with_latents(seed: int = 0) -> tuple[TextSums, dict[str, ContenderSums], np.ndarray, np.ndarray]:
    text, contenders, _, _ = example(seed)
    documents = np.repeat(np.arange(len(text.n_tokens)), text.n_tokens.astype(int))
    latents = np.random.default_rng(seed).choice(4, len(documents), p=[0.6, 0.3, 0.1, 0.0])
    own = fired(contenders["dictionary"], text, latents, documents)
    return text, {**contenders, "dictionary": own}, latents, documents


def test_description_length_is_that_of_a_hand_calculation():
    """One latent a token, of density p_i and size 1 + i: H₂ of every latent, and the entropy of which size it is."""
    text, contenders, latents, _ = with_latents()
    p = np.bincount(latents, minlength=4) / len(latents)
    positions = sum(-q * np.log2(q) - (1 - q) * np.log2(1 - q) for q in p if 0 < q < 1)
    sizes = sum(-q * np.log2(q) for q in p if q > 0)
    found = score(text, contenders, seed=0).contenders["dictionary"]["description_bits"].value
    assert found is not None
    assert abs(found - positions - sizes) < 1e-9


def test_dense_and_dead_latents_and_the_histogram_are_counts_of_densities():
    text, contenders, latents, _ = with_latents()
    scores = score(text, contenders, seed=0)
    p = np.bincount(latents, minlength=4) / len(latents)
    own, histogram = scores.contenders["dictionary"], scores.densities["dictionary"]
    assert own["dense_fraction"].value == (p > 0.1).mean()
    assert own["dead_fraction"].value == (p == 0).mean() == 0.25
    expected, _ = np.histogram(np.log10(p[p > 0]), histogram.log10_edges)
    assert [bin.value for bin in histogram.latents] == expected.tolist()
    assert list(scores.densities) == ["dictionary"]


def test_permuting_latents_and_dividing_the_text_change_no_score():
    text, contenders, latents, documents = with_latents()
    whole = score(text, contenders, seed=0)
    permuted = np.array([2, 0, 3, 1])
    order = np.random.default_rng(1).permutation(len(latents))
    own, other = contenders["dictionary"], LatentUsage(np.ones(4), len(text.n_tokens))
    for part in np.array_split(order, 5):
        some = LatentUsage(np.ones(4), len(text.n_tokens))
        entries = Active(np.arange(len(part)), permuted[latents[part]], (1 + latents[part]).astype(np.float32))
        some.update(entries, documents[part])
        other.merge(some)
    again = score(text, {**contenders, "dictionary": ContenderSums(**{**vars(own), "usage": other})}, seed=0)
    for metric, one in whole.contenders["dictionary"].items():
        same = again.contenders["dictionary"][metric]
        assert same.model_dump() == pytest.approx(one.model_dump(), rel=1e-9)
    assert again.densities == whole.densities


def test_the_spread_of_l0_is_that_over_tokens():
    text, contenders, _, _ = example()
    n = np.random.default_rng(0).integers(0, 9, int(text.n_tokens.sum()))
    documents = np.repeat(np.arange(len(text.n_tokens)), text.n_tokens.astype(int))
    sums = {"n_active": np.bincount(documents, n), "n_active_squared": np.bincount(documents, n**2)}
    own = ContenderSums(**{**vars(contenders["dictionary"]), **sums})
    found = score(text, {"dictionary": own}, seed=0).contenders["dictionary"]
    assert found["l0"].value is not None
    assert found["l0_std"].value is not None
    assert abs(found["l0"].value - n.mean()) < 1e-9
    assert abs(found["l0_std"].value - n.std()) < 1e-9


def test_a_difference_as_large_as_detectable_is_found_in_four_of_five_texts():
    """The definition of power, on texts whose true difference is what one of them calls detectable."""
    found, n_trials = 0, 100
    random = np.random.default_rng(0)
    ones, n = np.ones(40), 40
    text = TextSums(ones, ones, np.zeros((n, 1)), ones, ones, ones)
    size = DETECTABLE_ERRORS / np.sqrt(n)
    for trial in range(n_trials):
        low, high = (contender(ones, ones + random.normal(shift, 0.5**0.5, n)) for shift in (0, size))
        one = scored(text, {"low": low, "high": high}, trial, 100).scores.differences["high"]["delta_ce_nats"]
        assert one.high is not None
        found += one.high < 0
    assert 0.68 <= found / n_trials <= 0.92


def test_resamples_are_those_of_the_intervals():
    text, contenders, _, _ = with_latents()
    done: Scored = scored(text, contenders, seed=5, n_resamples=100)
    weights = resampling_weights(len(text.n_tokens), 100, 5).astype(float)
    expected = samples_of(weights, text, contenders)["dictionary"]["fvu"]
    np.testing.assert_array_equal(done.resamples["dictionary"]["fvu"], expected)
    assert set(done.resamples["dictionary"]) == set(done.scores.contenders["dictionary"])
