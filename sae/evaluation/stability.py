"""Stability: whether training again with another seed finds the same latents.

Every two dictionaries of a group are matched one to one by the cosine of their decoder rows (`sae.core.matching`).
The share of latents with a partner above 0.7 and the mean matched cosine are means over the pairs of seeds; beside
them stand the same numbers for chance.

Intervals: with three seeds or more the seeds are resampled, so they say where other seeds would lie (with three of
them that is the range of the pairs). With two seeds there is one pair, and its latents are resampled: the interval
then says nothing of a third seed.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from sae.core.config import Strict
from sae.core.errors import InputError
from sae.core.matching import SAME, Matching, Method, Rows, chance, match
from sae.core.random import numpy_generator
from sae.core.records import Interval
from sae.core.uncertainty import percentile_interval
from sae.evaluation.scores import Score

N_CHANCE = 2
"""Draws of the null for every pair of seeds."""
_N_RESAMPLES = 1000


class Stability(Strict):
    """How alike the dictionaries of several seeds are."""

    n_seeds: int
    n_latents: tuple[int, ...]
    """Latents of each dictionary that were matched."""
    share_above: float = SAME
    """The cosine that `share` counts above."""
    share: Score
    """Latents that have a partner above `share_above`, of all latents of both dictionaries."""
    mean_cosine: Score
    """Of matched decoder rows."""
    chance_share: float
    chance_mean_cosine: float
    resampled: Literal["latents", "seeds"]
    """What the intervals are over."""
    method: Method


def stability(decoders: Sequence[Rows], seed: int = 0) -> Stability:
    """Matches the decoder rows of several dictionaries, dead latents left out by the caller, pair by pair.

    Args:
        decoders: one set of rows for each seed, at least two.
        seed: of the null and of resampling.

    Raises:
        InputError: fewer than two sets, or sets that cannot be matched.
    """
    if len(decoders) < 2:
        raise InputError(f"stability needs dictionaries of at least two seeds, got {len(decoders)}")
    pairs = list(itertools.combinations(range(len(decoders)), 2))
    found = [match(decoders[i], decoders[j]) for i, j in pairs]
    null = [
        match(decoders[i], chance(decoders[j], seed, N_CHANCE * number + draw))
        for number, (i, j) in enumerate(pairs)
        for draw in range(N_CHANCE)
    ]
    share, cosine = _intervals(found, len(decoders), seed)
    return Stability(
        n_seeds=len(decoders),
        n_latents=tuple(len(rows) for rows in decoders),
        share=_score([m.share() for m in found], share),
        mean_cosine=_score([m.mean_cosine for m in found], cosine),
        chance_share=float(np.mean([m.share() for m in null])),
        chance_mean_cosine=float(np.mean([m.mean_cosine for m in null])),
        resampled="latents" if len(found) == 1 else "seeds",
        method="assigned" if all(m.method == "assigned" for m in found) else "mutual",
    )


def _intervals(found: Sequence[Matching], n_seeds: int, seed: int) -> tuple[Interval, Interval]:
    if len(found) == 1:
        return found[0].share_interval(seed), found[0].cosine_interval(seed)
    return _over_seeds(found, n_seeds, seed, Matching.share), _over_seeds(found, n_seeds, seed, _cosine)


def _cosine(matching: Matching) -> float:
    return matching.mean_cosine


def _over_seeds(found: Sequence[Matching], n_seeds: int, seed: int, of: Callable[[Matching], float]) -> Interval:
    """Resamples seeds; a resample's value is the mean over its pairs of different seeds."""
    values: Float[np.ndarray, "seed seed"] = np.zeros((n_seeds, n_seeds))
    values[np.triu_indices(n_seeds, 1)] = [of(matching) for matching in found]
    times = numpy_generator(seed, "seeds", n_seeds).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), _N_RESAMPLES)
    weights = np.triu(times[:, :, None] * times[:, None, :], 1)
    total = weights.sum((1, 2))
    return percentile_interval((weights * values).sum((1, 2))[total > 0] / total[total > 0])


def _score(values: Sequence[float], interval: Interval) -> Score:
    return Score(value=float(np.mean(values)), low=interval.low, high=interval.high)
