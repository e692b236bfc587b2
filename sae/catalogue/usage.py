"""How often and how strongly every latent fires: counts, sums, maxima and histograms, as sums.

Histogram bins are spaced by a quarter of an octave, the same for all latents: from 2^−10 to 4 times a reference
activation. Values outside fall into the first or last bin, so the counts of a latent always sum to its tokens.
"""

import numpy as np
from jaxtyping import Float, Int

OCTAVES_BELOW, OCTAVES_ABOVE, BINS_PER_OCTAVE = 10, 2, 4


def bin_edges(reference: float) -> Float[np.ndarray, "edge"]:
    """Edges of the bins around a reference activation, which is any positive number, say the largest of a sample."""
    n = (OCTAVES_BELOW + OCTAVES_ABOVE) * BINS_PER_OCTAVE
    return reference * 2.0 ** (np.arange(n + 1) / BINS_PER_OCTAVE - OCTAVES_BELOW)


class Usage:
    """Per latent: active tokens, sum, maximum and histogram of the non-zero activations."""

    def __init__(self, n_latents: int, edges: Float[np.ndarray, "edge"]) -> None:
        self.n_tokens = 0
        self.edges = edges
        self.n_active = np.zeros(n_latents, dtype=np.int64)
        self.sum = np.zeros(n_latents)
        self.max = np.zeros(n_latents, dtype=np.float32)
        self.histogram = np.zeros((n_latents, len(edges) - 1), dtype=np.int64)

    def update(self, n_tokens: int, latents: Int[np.ndarray, "entry"], values: Float[np.ndarray, "entry"]) -> None:
        """Adds the active entries of `n_tokens` tokens."""
        n_latents, n_bins = self.histogram.shape
        self.n_tokens += n_tokens
        self.n_active += np.bincount(latents, minlength=n_latents)
        self.sum += np.bincount(latents, weights=values, minlength=n_latents)
        np.maximum.at(self.max, latents, values)
        bins = np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, n_bins - 1)
        np.add.at(self.histogram.reshape(-1), latents * n_bins + bins, 1)

    def merge(self, other: "Usage") -> None:
        """Adds everything that `other` has seen, over the same bins."""
        assert np.array_equal(self.edges, other.edges)
        self.n_tokens += other.n_tokens
        self.n_active += other.n_active
        self.sum += other.sum
        np.maximum(self.max, other.max, out=self.max)
        self.histogram += other.histogram

    @property
    def densities(self) -> Float[np.ndarray, "latent"]:
        """Share of the tokens on which each latent is active."""
        return self.n_active / max(1, self.n_tokens)

    @property
    def means(self) -> Float[np.ndarray, "latent"]:
        """Mean of the non-zero activations; 0 for a latent that never fires."""
        return self.sum / np.maximum(1, self.n_active)
