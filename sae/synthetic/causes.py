"""Correlated features: a Gaussian copula with a few common causes.

    g_f = ⟨w_f, ε⟩ + √(1 − ‖w_f‖²) η_f        ε ~ N(0, I) of each row, η_f ~ N(0, 1)
    f is active where g_f > t_f = Φ⁻¹(1 − p_f)

so each g_f is standard normal and p_f holds, whatever the weights; the correlation of g_f and g_h is ⟨w_f, w_h⟩, of the
rank asked for off the diagonal. What is drawn is a uniform number beside Φ((⟨w_f, ε⟩ − t_f) / √(1 − ‖w_f‖²)), the
probability given the causes: sixteen bits for every row and feature, and more for the few that pass, which costs less
than a normal number each. Φ is of single precision, so a probability is off by up to 6e-8.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import ndtri
from torch import Tensor

from sae.core.random import numpy_generator
from sae.synthetic.truth_config import TruthConfig

_MOST = 0.99
"""Of a feature's variance that common causes may make up."""
_LEVELS = 65_536


class Causes(NamedTuple):
    """Weights of the common causes, and what is left of every feature for itself."""

    weights: Float[Tensor, "rank free"]
    """w_f, column by column; no rows where features are independent."""
    slopes: Float[Tensor, "free"]
    """1 / √(2 (1 − ‖w_f‖²)): Φ(g) = ½ (1 + erf(g / √2))."""
    biases: Float[Tensor, "free"]
    """−t_f times the slope."""

    @property
    def correlation(self) -> Float[Tensor, "free free"]:
        """Of the g_f: ⟨w_f, w_h⟩ off the diagonal, 1 on it."""
        common = self.weights.T @ self.weights
        return common.fill_diagonal_(1.0)


def drawn(config: TruthConfig, frequencies: Float[np.ndarray, "free"]) -> Causes:
    """The causes of the features that have no parent, for the frequencies of these."""
    g = numpy_generator(config.seed, "truth", "causes")
    weights = g.normal(size=(config.correlation_rank, len(frequencies))) * config.correlation_scale
    length = np.square(weights).sum(0)
    weights *= np.sqrt(np.minimum(1, _MOST / np.maximum(length, _MOST)))
    slopes = 1 / np.sqrt(2 * (1 - np.square(weights).sum(0)))
    biases = ndtri(frequencies) * slopes
    return Causes(*(torch.from_numpy(value).float() for value in (weights, slopes, biases)))


def active_pairs(causes: Causes, n_rows: int, random: np.random.Generator) -> tuple[Int[np.ndarray, "_"], ...]:
    """Rows, and numbers among the free features, of what is active in `n_rows` new rows, by row."""
    rank, n_free = causes.weights.shape
    effects = torch.from_numpy(random.standard_normal((n_rows, rank), dtype=np.float32))
    scores = torch.addcmul(causes.biases, effects @ causes.weights, causes.slopes)
    levels = scores.erf_().add_(1).mul_(_LEVELS / 2).numpy().ravel()
    n = n_rows * n_free
    bits = random.integers(0, 2**64, -(-n // 4), dtype=np.uint64).view(np.uint16)[:n]
    places = np.flatnonzero(bits < levels)
    rest = random.random(len(places), dtype=np.float32)
    places = places[bits[places] + rest < levels[places]]
    return places // n_free, places % n_free
