"""What stands beside a probe: the same probe with shuffled labels, and latents that fire as often.

A probe that finds a concept in shuffled labels finds nothing. A latent that tells a concept must do so better than a
latent of the same density, for frequent latents correlate with everything.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from sae.core.uncertainty import rank_p
from sae.probe.score import permutation


def shuffled_labels(
    truth: Bool[np.ndarray, "text"], document: Int[np.ndarray, "text"], random: np.random.Generator
) -> Bool[np.ndarray, "text"]:
    """The same labels in another order, swapped between documents; both classes stay as large."""
    return truth[permutation(document, random)]


def matched_latents(
    density: Float[np.ndarray, "latent"],
    latents: Sequence[int],
    exclude: Sequence[int],
    n: int,
    random: np.random.Generator,
) -> Int[np.ndarray, "n used"]:
    """For each of `latents`, n latents that fire about as often, none of them in `exclude`.

    They are the n nearest in log density among latents that fire at all, in random order, each draw using no latent
    twice; with fewer than n to choose from they repeat.

    Args:
        density: share of tokens on which each latent fires.
        latents: what is to be matched.
        exclude: latents that may not serve as controls.
        n: how many controls.
        random: orders the controls.
    """
    firing = np.flatnonzero(density > 0)
    allowed = np.setdiff1d(firing, np.union1d(np.asarray(exclude, dtype=np.int64), np.asarray(latents, dtype=np.int64)))
    if len(allowed) == 0:
        return np.empty((0, len(latents)), dtype=np.int64)
    columns: list[np.ndarray] = []
    for latent in latents:
        distance = np.abs(np.log(density[allowed]) - np.log(max(density[latent], density[firing].min())))
        nearest = allowed[np.argsort(distance, kind="stable")[:n]]
        columns.append(_distinct(random.permutation(np.resize(nearest, n)), columns))
    return np.stack(columns, 1)


def _distinct(column: Int[np.ndarray, "n"], taken: list[np.ndarray]) -> Int[np.ndarray, "n"]:
    """Rotates the column until no draw holds a latent twice, as far as that is possible."""
    rotations = [np.roll(column, shift) for shift in range(len(column))]
    clashes = [sum(int((r == t).sum()) for t in taken) for r in rotations]
    return rotations[int(np.argmin(clashes))]


def rank_among(effect: float, controls: Float[np.ndarray, "control"]) -> float:
    """p by rank of the effect among its controls, both about the controls' mean, which need not be zero.

    A push or a patch of any kind may drive log-odds one way; what counts is how far an effect lies from that.
    """
    centre = float(controls.mean())
    return rank_p(effect - centre, controls - centre)
