"""Difference of means: v = μ₊ − μ₋, the target said where v·x is past the midpoint v·(μ₊ + μ₋)/2.

The simplest direction for a concept (Marks and Tegmark 2023, arXiv:2310.06824, "mass-mean probe"); nothing is tuned.
"""

import numpy as np
from jaxtyping import Bool, Float

from sae.probe.rule import Fold, LinearRule


def mean_difference(x: Float[np.ndarray, "text d"], y: Bool[np.ndarray, "text"]) -> Float[np.ndarray, "d"]:
    """Mean of the targets less the mean of the others, in units of x."""
    return x[y].mean(0, dtype=np.float64) - x[~y].mean(0, dtype=np.float64)


def fit_means(fold: Fold) -> LinearRule:
    """The difference of means on train, thresholded at its midpoint."""
    x, y = fold.x_train, fold.y_train
    direction = mean_difference(x, y)
    middle = (x[y].mean(0, dtype=np.float64) + x[~y].mean(0, dtype=np.float64)) / 2
    return LinearRule(np.arange(x.shape[1]), direction, float(-direction @ middle))
