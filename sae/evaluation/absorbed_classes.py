"""Absorption as scores: one for every class, and one for all that are found."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sae.core.config import Strict
from sae.evaluation.absorption import Absorbed, absorbed_fraction
from sae.evaluation.scores import More, Score, score_of

Weights = Float[np.ndarray, "resample document"]


class ClassAbsorption(Strict):
    """One class of the hierarchy."""

    name: str
    level: str
    latent: int
    """The one that tells the class best."""
    youden: float
    """Share of the class's tokens that it fires on, less that of other tokens; on the split that it was chosen on."""
    is_found: bool
    n_tokens: int
    silent: Score
    """Share of the class's tokens on which it is silent."""
    absorbed: Score
    """Share on which a latent of one of the class's children carries the class instead."""


class Absorption(Strict):
    """A dictionary on a hierarchy whose truth is known."""

    classes: tuple[ClassAbsorption, ...]
    n_found: int
    """Classes that have a latent of their own."""
    silent: Score
    """A mean over these; null where there are none."""
    absorbed: Score


def absorption_of(classes: Sequence[Absorbed], weights: Weights) -> Absorption:
    """The record of what became of every class; `weights` are those of the resamples."""
    return Absorption(
        classes=tuple(_class(one, weights) for one in classes),
        n_found=sum(one.chosen.is_found for one in classes),
        silent=score_of(*more_of(classes, weights, silent=True)),
        absorbed=score_of(*more_of(classes, weights)),
    )


def more_of(classes: Sequence[Absorbed], weights: Weights, silent: bool = False) -> More:
    """The share of absorbed (or silent) tokens, with its resamples."""
    once = np.ones((1, weights.shape[1]))
    return More(
        float(absorbed_fraction(once, classes, silent)[0]),
        absorbed_fraction(weights, classes, silent),
    )


def _class(one: Absorbed, weights: Weights) -> ClassAbsorption:
    found = [one._replace(chosen=one.chosen._replace(youden=1.0))]  # of each class by itself, found or not
    return ClassAbsorption(
        name=one.name,
        level=one.level,
        latent=one.chosen.latent,
        youden=one.chosen.youden,
        is_found=one.chosen.is_found,
        n_tokens=int(one.n_tokens.sum()),
        silent=score_of(*more_of(found, weights, silent=True)),
        absorbed=score_of(*more_of(found, weights)),
    )
