"""Logistic probe: columns standardised on train, L2 penalty 1/C chosen on validation, classes weighted equally.

scikit-learn fits; the standardisation is folded into the weights, so that the fitted rule reads raw activations.
"""

import warnings

import numpy as np
from jaxtyping import Bool, Float

from sae.probe.rule import Fold, LinearRule
from sae.probe.score import area, balanced_accuracy

INVERSE_PENALTIES = (0.01, 0.1, 1.0)
"""The grid of C, strongest penalty first: a tie goes to the simpler probe."""


def fit_logistic(fold: Fold) -> LinearRule:
    """The logistic probe whose C does best on validation."""
    rules = [logistic(fold.x_train, fold.y_train, c) for c in INVERSE_PENALTIES]
    return max(rules, key=lambda rule: quality(rule, fold))  # max keeps the first of equals


def quality(rule: LinearRule, fold: Fold) -> tuple[float, float]:
    """Validation balanced accuracy, then AUC: what everything is chosen by."""
    score = rule.score(fold.x_validation)
    return float(balanced_accuracy(fold.y_validation, score > 0)), area(fold.y_validation, score)


def logistic(x: Float[np.ndarray, "text column"], y: Bool[np.ndarray, "text"], c: float) -> LinearRule:
    """One fit at a given inverse penalty."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    scale = np.where(scale > 1e-9 * max(scale.max(), 1e-30), scale, np.inf)  # a constant column gets weight zero
    # liblinear is ten times faster than the default at these sizes; it also shrinks the intercept, so that is scaled.
    model = LogisticRegression(C=c, class_weight="balanced", solver="liblinear", intercept_scaling=10)
    with warnings.catch_warnings():  # validation judges an unfinished fit like any other
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((x - mean) / scale, y)
    weight = model.coef_[0] / scale
    return LinearRule(np.arange(x.shape[1]), weight, float(np.ravel(model.intercept_)[0] - mean @ weight))
