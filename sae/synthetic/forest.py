"""Which feature is whose child, and how often each is active.

    asked(f)  = lowest + (highest − lowest) · (r^(−α) − n^(−α)) / (1 − n^(−α))        r = f + 1
    p(child)  = asked(child) · min(1, family_share · p(parent) / Σ over its siblings and itself of asked)

Siblings exclude one another and need their parent, so all together they cannot be active more often than it: where they
would be, all of them are by the same factor less often. What comes out is exact: a child is active with probability
p(child) / p(parent) where its parent is. The law of Zipf is that of the published benchmark (arXiv:2602.14687).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sae.synthetic.truth_config import TruthConfig

NO_PARENT = -1


class Forest(NamedTuple):
    """The trees, and the frequencies that they allow."""

    parents: Int[np.ndarray, "feature"]
    """Of every feature; `NO_PARENT` for roots and for those that stand alone."""
    first_child: Int[np.ndarray, "feature"]
    """The first of its children, who follow one another; −1 where it has none."""
    frequencies: Float[np.ndarray, "feature"]
    """Share of the rows in which each is active."""
    free: Int[np.ndarray, "free"]
    """Features without a parent, ascending."""
    cumulative: Float[np.ndarray, "feature branching"]
    """Of each parent: the probability that one of its first 1, 2, … children is active where it is; zero for others."""
    depth: int
    """Levels below the roots."""


def asked(config: TruthConfig) -> Float[np.ndarray, "feature"]:
    """The law of Zipf between the two frequencies."""
    falling = np.arange(1, config.n_features + 1, dtype=np.float64) ** -config.zipf
    span = falling[0] - falling[-1]
    share = (falling - falling[-1]) / span if span > 0 else np.ones_like(falling)
    return config.lowest + (config.highest - config.lowest) * share


def grown(config: TruthConfig) -> Forest:
    """The forest of a configuration: roots first, then level by level."""
    n, b = config.n_features, config.branching
    parents, first_child = np.full(n, NO_PARENT), np.full(n, -1)
    frequencies, cumulative = asked(config), np.zeros((n, b))
    level, following = np.arange(config.n_trees), config.n_trees
    for _ in range(config.depth if config.n_trees else 0):
        children = following + np.arange(len(level) * b).reshape(-1, b)
        following += children.size
        parents[children], first_child[level] = level[:, None], children[:, 0]
        total = frequencies[children].sum(1)
        frequencies[children] *= np.minimum(1, config.family_share * frequencies[level] / total)[:, None]
        cumulative[level] = np.cumsum(frequencies[children], 1) / frequencies[level, None]
        level = children.ravel()
    free = np.nonzero(parents == NO_PARENT)[0]
    return Forest(parents, first_child, frequencies, free, cumulative, config.depth if config.n_trees else 0)
