"""Description length: how many bits a token's code costs, so that L0 and width are on one scale.

For each token it must be said which latents fire, and how strongly:

    bits = Σ_i H₂(p_i)  +  L0 · H(sizes)

p_i is the density of latent i and H₂ the entropy of a yes or no; `sizes` is the distribution of z_i ‖d_i‖, all latents
together, in bins of a quarter of an octave. Rounding within such a bin errs by 5 % (root mean square), so it adds
0.25 % of the code's energy to the error. A rarer latent costs less, one that fires half of the time one bit, and a
dictionary with more latents pays for naming them. Latents are coded one by one, which is an upper bound: what fires
together is not made use of.

Ayonrinde, Pearce and Sharkey 2024, arXiv:2410.11179, who compare dictionaries by such a length at equal error; sizes
are quantised here on a logarithmic scale, and together, so that every resample of the documents has its own length.
"""

import numpy as np
from jaxtyping import Float, Int

BINS_PER_OCTAVE, _OCTAVES = 4, 24
N_BINS = 2 * _OCTAVES * BINS_PER_OCTAVE
"""Of sizes from 2^−24 to 2^24; what is smaller or larger falls into the first or last."""


def size_bins(sizes: Float[np.ndarray, "entry"]) -> Int[np.ndarray, "entry"]:
    """The bin of every size; sizes are above zero."""
    octaves = np.log2(np.maximum(sizes.astype(np.float64), 2.0**-_OCTAVES)) + _OCTAVES
    return np.minimum(np.floor(octaves * BINS_PER_OCTAVE).astype(np.int64), N_BINS - 1)


def yes_or_no_bits(p: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """H₂(p) = −p log₂ p − (1 − p) log₂(1 − p); 0 at both ends."""
    return _surprise(p) + _surprise(1 - p)


def entropy_bits(counts: Float[np.ndarray, "*n bin"]) -> Float[np.ndarray, "*n"]:
    """Entropy of the distribution that counts follow, over the last axis; 0 where there are none."""
    total = counts.sum(-1, keepdims=True)
    return _surprise(counts / np.where(total > 0, total, 1)).sum(-1)


def _surprise(p: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    return -p * np.log2(np.where(p > 0, p, 1))
