"""Error bars and tests in which the document, not the token, is the unit.

Tokens of one document are not independent; resampling documents (Efron and Tibshirani 1993, chapter 8) respects that.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from sae.core.errors import InputError
from sae.core.random import numpy_generator
from sae.core.records import Interval


def resampling_weights(n_documents: int, n_resamples: int, seed: int) -> Int[np.ndarray, "resample document"]:
    """How often each document appears in each bootstrap resample."""
    if n_documents < 2:
        raise InputError(f"an interval needs at least two documents, got {n_documents}")
    random = numpy_generator(seed, "bootstrap", n_documents)
    return random.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=n_resamples)


def percentile_interval(samples: Float[np.ndarray, "resample"], level: float = 0.95) -> Interval:
    """The central `level` of the resampled statistics; those that are not finite do not count."""
    finite = samples[np.isfinite(samples)]
    if len(finite) == 0:
        raise InputError("no resample gave a finite statistic")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def bootstrap_ratio(
    numerators: Float[np.ndarray, "document"],
    denominators: Float[np.ndarray, "document"],
    seed: int,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Interval of Σ numerators / Σ denominators over resampled documents."""
    weights = resampling_weights(len(numerators), n_resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        samples = (weights @ numerators) / (weights @ denominators)
    return percentile_interval(samples, level)


def bootstrap_mean(
    values: Float[np.ndarray, "document"], seed: int, n_resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Interval of the mean over resampled documents."""
    return bootstrap_ratio(values, np.ones_like(values), seed, n_resamples, level)


def rank_p(effect: float, null: Float[np.ndarray, "n"]) -> float:
    """(1 + #{|null| ≥ |effect|}) / (1 + n): the share of controls that do at least as much."""
    return float((1 + (np.abs(null) >= abs(effect)).sum()) / (1 + len(null)))


def sign_flip_p(differences: Float[np.ndarray, "document"], seed: int, n_flips: int = 2000) -> float:
    """Two-sided permutation test that paired differences are symmetric about zero."""
    signs = numpy_generator(seed, "sign flips", len(differences)).choice([-1.0, 1.0], (n_flips, len(differences)))
    return rank_p(float(differences.mean()), (signs * differences).mean(1))


def false_discovery(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini–Hochberg q values (1995) in the order given; None stays None."""
    known = [(p, i) for i, p in enumerate(p_values) if p is not None]
    q_values: list[float | None] = [None] * len(p_values)
    smallest = 1.0
    for rank, (p, i) in reversed(list(enumerate(sorted(known), 1))):
        smallest = min(smallest, p * len(known) / rank)
        q_values[i] = smallest
    return q_values


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (1979) in the order given: with those below 0.05, in 95 % of all cases none is wrong.

    It asks nothing of how the tests depend on one another, unlike the false discovery rate.
    """
    adjusted, largest, n = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, i in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (n - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def difference_p(difference: float, standard_error: float, n_documents: int) -> float:
    """Two-sided p of a difference between pairs, by Student's t over documents; 1 for no difference at all.

    A difference that is the same in every resample has no error, and a p of 0.
    """
    from scipy.stats import t

    if difference == 0:
        return 1.0
    return float(2 * t.sf(abs(difference) / standard_error, n_documents - 1)) if standard_error > 0 else 0.0
