"""Directions in fewer dimensions than there are of them, and how much they overlap.

Random unit vectors, or such ones moved until no two have a cosine above a bound:

    D ← normalise(D − ¼ · excess(D Dᵀ) D)        excess(c) = sign(c) · max(0, |c| − 0.95 · bound), 0 on the diagonal

by blocks of rows, so that no matrix of all pairs is kept.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.core.measures import unit
from sae.core.random import generator
from sae.synthetic.truth_config import TruthConfig

_BLOCK = 1024
_N_STEPS = 400
_STEP = 0.25
_WITHIN = 0.95


def directions_of(config: TruthConfig) -> Float[Tensor, "feature d"]:
    """The unit directions of a configuration.

    Raises:
        InputError: `max_cosine` was not reached.
    """
    rows = unit(torch.randn(config.n_features, config.d, generator=generator(config.seed, "truth", "directions")))
    if config.max_cosine is None:
        return rows
    for _ in range(_N_STEPS):
        if float(overlaps(rows).max()) <= config.max_cosine:
            return rows
        rows = _moved_apart(rows, _WITHIN * config.max_cosine)
    raise InputError(
        f"max_cosine {config.max_cosine} was not reached for {config.n_features} directions in {config.d} dimensions "
        f"(now {float(overlaps(rows).max()):.3f}, never below {config.welch:.3f}): raise it, or leave it out"
    )


def overlaps(rows: Float[Tensor, "feature d"]) -> Float[Tensor, "feature"]:
    """Of every unit direction the largest |cosine| with another; 0 where there is one alone."""
    return torch.cat([_without_itself(rows, start).abs().amax(1) for start in range(0, len(rows), _BLOCK)])


def _moved_apart(rows: Tensor, bound: float) -> Tensor:
    moved = []
    for start in range(0, len(rows), _BLOCK):
        cosines = _without_itself(rows, start)
        excess = cosines.sign() * (cosines.abs() - bound).clamp(min=0)
        moved.append(rows[start : start + _BLOCK] - _STEP * (excess @ rows))
    return unit(torch.cat(moved))


def _without_itself(rows: Tensor, start: int) -> Float[Tensor, "block feature"]:
    """Cosines of a block of rows with all, 0 for each with itself."""
    cosines = rows[start : start + _BLOCK] @ rows.T
    inside = torch.arange(len(cosines))
    cosines[inside, start + inside] = 0
    return cosines
