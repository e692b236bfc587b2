"""Probes on a dictionary's latents: the best single one, and a logistic probe on the k that differ most.

1. Latents are ranked on train by the standardised difference of means, |μ₊ − μ₋| / σ.
2. k-sparse probe (Gurnee et al. 2023, arXiv:2305.01610): logistic regression on the first k.
3. Best latent: for each of the first 64 the threshold with the best balanced accuracy on train; validation chooses
   among them (accuracy, then AUC, then rank).
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from sae.probe.logistic import logistic, quality
from sae.probe.means import mean_difference
from sae.probe.rule import Fold, LinearRule

N_CANDIDATES = 64


def standardised_difference(
    code: Float[np.ndarray, "text latent"], y: Bool[np.ndarray, "text"]
) -> Float[np.ndarray, "latent"]:
    """(μ₊ − μ₋)/σ per latent; 0 for one that never varies."""
    scale = code.std(0, dtype=np.float64)
    return mean_difference(code, y) / np.where(scale > 0, scale, np.inf)


def ranked_latents(fold: Fold, either_sign: bool = True) -> Int[np.ndarray, "latent"]:
    """Latents by how much they differ on train, most first.

    Args:
        fold: codes.
        either_sign: also latents that fire for the others; else those that fire for the target come first.
    """
    difference = standardised_difference(fold.x_train, fold.y_train)
    return np.argsort(-(np.abs(difference) if either_sign else difference), kind="stable")


def fit_sparse(fold: Fold, k: int) -> LinearRule:
    """Logistic probe on the k latents that differ most; so few columns need no penalty to be chosen."""
    columns = ranked_latents(fold)[:k]
    inner = logistic(fold.x_train[:, columns], fold.y_train, 1.0)
    return LinearRule(columns, inner.weight, inner.bias)


def fit_best_latent(fold: Fold, either_sign: bool = True) -> LinearRule:
    """The single latent, with sign and threshold, that tells the target best.

    Args:
        fold: codes.
        either_sign: whether a latent that fires for the others may stand for the target by its silence.
    """
    columns = ranked_latents(fold, either_sign)[:N_CANDIDATES]
    return max((threshold_rule(fold, int(j), either_sign) for j in columns), key=lambda rule: quality(rule, fold))


def threshold_rule(fold: Fold, latent: int, either_sign: bool = True) -> LinearRule:
    """The latent's sign and threshold with the best balanced accuracy on train."""
    values, y = fold.x_train[:, latent].astype(np.float64), fold.y_train
    sign = -1.0 if either_sign and values[y].mean() < values[~y].mean() else 1.0
    return LinearRule(np.array([latent]), np.array([sign]), -best_threshold(sign * values, y))


def best_threshold(values: Float[np.ndarray, "text"], y: Bool[np.ndarray, "text"]) -> float:
    """The cut between two neighbouring values above which "target" is said with the best balanced accuracy."""
    order = np.argsort(-values, kind="stable")
    sorted_values, sorted_y = values[order], y[order]
    hits, alarms = np.cumsum(sorted_y) / y.sum(), np.cumsum(~sorted_y) / (~y).sum()
    cuts = np.flatnonzero(np.diff(sorted_values) < 0)  # after these, the value falls
    if len(cuts) == 0:
        return float(sorted_values[0])  # constant: never says target
    best = cuts[np.argmax(hits[cuts] - alarms[cuts])]
    return float((sorted_values[best] + sorted_values[best + 1]) / 2)
