"""How well batches are mixed, against what drawing rows uniformly without replacement would give.

1. Distinct documents per batch over their expected number; 1 is perfect. (For scale: a well-known library's
   4,096-token batch draws on about 235 sequences, of the 2,000 and more that its buffer could give.)
2. Autocorrelation at lag 1 of the batch means m_0 … m_(n−1): Σ (m_i − m̄)·(m_(i+1) − m̄) / Σ ‖m_i − m̄‖². Under perfect
   shuffling it is −1/n with a spread of about 1/√(n · r), where r, the participation ratio of the means' covariance,
   says in how many dimensions they vary; neighbouring batches that share documents push it up.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int
from scipy.special import gammaln
from torch import Tensor


@runtime_checkable
class Shuffled(Protocol):
    """What is judged."""

    @property
    def n_rows(self) -> int: ...
    @property
    def n_per_batch(self) -> int: ...
    @property
    def all_documents(self) -> Int[np.ndarray, "row"]: ...
    def row_numbers(self, step: int) -> Int[np.ndarray, "batch"]: ...


@runtime_checkable
class Readable(Protocol):
    """Batches by step."""

    def batch(self, step: int) -> Float32[Tensor, "batch d"]: ...


class Autocorrelation(NamedTuple):
    """How alike neighbouring batches are."""

    value: float
    """Lag 1; about −1/n under perfect shuffling."""
    spread: float
    """Its standard deviation under perfect shuffling."""


def shuffle_quality(batches: Shuffled, n_batches: int = 32) -> float:
    """Distinct documents per batch over what uniform sampling without replacement gives; 1 is perfect.

    Args:
        batches: the batches to judge; no activation is read.
        n_batches: how many, evenly spread over the first epoch.
    """
    documents = batches.all_documents
    per_epoch = max(1, batches.n_rows // batches.n_per_batch)
    steps = np.unique(np.arange(n_batches) * per_epoch // n_batches)
    distinct = np.mean([len(np.unique(documents[batches.row_numbers(int(step))])) for step in steps])
    return float(distinct / expected_distinct(documents, min(batches.n_per_batch, batches.n_rows)))


def expected_distinct(documents: Int[np.ndarray, "row"], n: int) -> float:
    """Distinct documents among `n` rows drawn uniformly without replacement: Σ 1 − C(N − N_d, n) / C(N, n)."""
    total = len(documents)
    sizes = np.unique(documents, return_counts=True)[1]
    left = np.maximum(total - sizes - n, 0)
    log_missing = gammaln(total - sizes + 1) - gammaln(left + 1) - gammaln(total + 1) + gammaln(total - n + 1)
    return float((1 - np.where(sizes > total - n, 0, np.exp(log_missing))).sum())


def mean_autocorrelation(batches: Readable, n_batches: int = 64) -> Autocorrelation:
    """Autocorrelation at lag 1 of the means of the first `n_batches` batches, at least 3."""
    return autocorrelation(torch.stack([batches.batch(step).mean(0, dtype=torch.float64) for step in range(n_batches)]))


def autocorrelation(means: Float64[Tensor, "batch d"]) -> Autocorrelation:
    """Autocorrelation at lag 1 of a series of vectors; means that do not vary have none."""
    centred = means - means.mean(0)
    total = float(centred.square().sum())
    if total == 0:
        return Autocorrelation(0.0, len(means) ** -0.5)
    # The Gram matrix has the eigenvalues of the covariance, and one row per batch instead of one per dimension.
    gram = centred @ centred.T
    dimensions = total**2 / float(gram.square().sum())
    value = float(gram.diagonal(1).sum()) / total
    return Autocorrelation(value, (len(means) * dimensions) ** -0.5)
