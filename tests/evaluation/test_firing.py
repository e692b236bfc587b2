import numpy as np
import pytest

from sae.core.uncertainty import percentile_interval, resampling_weights
from sae.evaluation.firing import KEPT, FiringDocuments, recentred

N_LATENTS, N_DOCUMENTS = 60, 40


def pairs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents of all frequencies: some in no document, some in one, some in most."""
    random = np.random.default_rng(seed)
    fires = random.random((N_LATENTS, N_DOCUMENTS)) < np.linspace(0, 0.9, N_LATENTS)[:, None] ** 3
    latents, documents = np.nonzero(fires)
    repeated = random.permutation(np.repeat(np.arange(len(latents)), 2))
    return latents[repeated], documents[repeated]


def whole(latents: np.ndarray, documents: np.ndarray) -> FiringDocuments:
    firing = FiringDocuments(N_LATENTS)
    firing.update(latents, documents)
    return firing


def brute_force(latents: np.ndarray, documents: np.ndarray, weights: np.ndarray) -> np.ndarray:
    fires = np.zeros((N_LATENTS, N_DOCUMENTS))
    fires[latents, documents] = 1
    return (weights @ fires.T == 0).mean(1)


def test_dead_fractions_equal_brute_force():
    latents, documents = pairs()
    weights = resampling_weights(N_DOCUMENTS, 200, 0).astype(float)
    found = whole(latents, documents).dead_fractions(weights)
    expected = brute_force(latents, documents, weights)
    # Latents in more than KEPT documents are taken to fire in every resample.
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found.std() > 0


def test_any_division_into_updates_gives_the_same_dead_fractions():
    latents, documents = pairs()
    weights = resampling_weights(N_DOCUMENTS, 50, 1).astype(float)
    a, b = FiringDocuments(N_LATENTS), FiringDocuments(N_LATENTS)
    for part, start in ((a, 0), (b, len(latents) // 3)):
        stop = len(latents) // 3 if part is a else len(latents)
        for at in range(start, stop, 37):
            part.update(latents[at : min(at + 37, stop)], documents[at : min(at + 37, stop)])
    a.merge(b)
    expected = whole(latents, documents)
    np.testing.assert_array_equal(a.dead_fractions(weights), expected.dead_fractions(weights))
    np.testing.assert_array_equal(a.n_documents, expected.n_documents)
    assert expected.n_documents.max() == KEPT + 1


def test_the_plain_bootstrap_is_biased_and_recentring_removes_the_bias():
    latents, documents = pairs()
    firing = whole(latents, documents)
    value = float(firing.dead.mean())
    samples = firing.dead_fractions(resampling_weights(N_DOCUMENTS, 1000, 0).astype(float))
    assert samples.min() >= value
    assert samples.mean() > value + samples.std()
    interval = percentile_interval(recentred(samples, value))
    assert interval.low <= value <= interval.high


@pytest.mark.parametrize("n_latents", [0, 3])
def test_nothing_fires(n_latents: int):
    firing = FiringDocuments(n_latents)
    firing.update(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    assert firing.dead.all()
    if n_latents:
        assert (firing.dead_fractions(np.ones((2, 4))) == 1).all()
