import numpy as np

from sae.catalogue.usage import Usage, bin_edges

N_LATENTS, N_TOKENS = 7, 300


def entries(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(token, latent, value); the last latent never fires."""
    random = np.random.default_rng(seed)
    tokens, latents = np.nonzero(random.random((N_TOKENS, N_LATENTS - 1)) < 0.2)
    return tokens, latents, np.exp(3 * random.normal(size=len(tokens))).astype(np.float32)


def whole() -> Usage:
    _, latents, values = entries()
    usage = Usage(N_LATENTS, bin_edges(2.0))
    usage.update(N_TOKENS, latents, values)
    return usage


def test_histogram_counts_sum_to_density_times_tokens():
    usage = whole()
    np.testing.assert_array_equal(usage.histogram.sum(1), usage.n_active)
    np.testing.assert_allclose(usage.densities * N_TOKENS, usage.n_active)
    assert usage.densities[-1] == 0
    assert usage.means[-1] == 0


def test_values_lie_in_their_bins_and_outliers_in_the_outer_ones():
    usage = Usage(1, bin_edges(1.0))
    edges = usage.edges
    assert edges[0] == 2.0**-10
    assert edges[-1] == 4
    middle = np.sqrt(edges[:-1] * edges[1:]).astype(np.float32)
    usage.update(len(middle), np.zeros(len(middle), dtype=np.int64), middle)
    np.testing.assert_array_equal(usage.histogram[0], 1)
    usage.update(2, np.zeros(2, dtype=np.int64), np.array([1e-9, 1e9], dtype=np.float32))
    assert usage.histogram[0, 0] == usage.histogram[0, -1] == 2


def test_statistics_equal_numpy():
    _, latents, values = entries()
    usage = whole()
    for latent in range(N_LATENTS - 1):
        own = values[latents == latent]
        np.testing.assert_allclose(usage.means[latent], own.mean(), rtol=1e-5)
        assert usage.max[latent] == own.max()
        assert usage.n_active[latent] == len(own)


def test_merged_parts_equal_the_whole():
    tokens, latents, values = entries()
    a, b = Usage(N_LATENTS, bin_edges(2.0)), Usage(N_LATENTS, bin_edges(2.0))
    first = tokens < 100
    a.update(100, latents[first], values[first])
    b.update(N_TOKENS - 100, latents[~first], values[~first])
    a.merge(b)
    expected = whole()
    assert a.n_tokens == expected.n_tokens
    np.testing.assert_array_equal(a.histogram, expected.histogram)
    np.testing.assert_array_equal(a.max, expected.max)
    np.testing.assert_allclose(a.sum, expected.sum)
