"""Which latent stands for which true feature.

1. One to one: the pairs with the largest sum of cosines, up to `MOST_ASSIGNED` rows by the Hungarian method
   (`sae.core.matching`), beyond by a sparse assignment among the `N_NEAREST` latents of each feature: a feature whose
   nearest latents all go to others stays alone, so the sum is at most the optimum's. For 2,048 random rows in 256
   dimensions both give 0.20535; 16,384 random rows in 768 take 40 s on a busy core, trained ones less.
2. The nearest: of every latent the feature with the largest cosine, several latents to one feature where it comes so.

Cosines keep their sign: activations are not negative, so a latent that points away does not stand for a feature.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

from sae.core.errors import InputError
from sae.core.matching import MOST_ASSIGNED, assigned
from sae.core.measures import unit

N_NEAREST = 64
NOBODY = -1
_BLOCK = 1024


class Nearest(NamedTuple):
    """Of every row of one set, rows of the other."""

    which: Int[Tensor, "row k"]
    """The k nearest, the nearest first."""
    cosines: Float[Tensor, "row k"]


class Pairing(NamedTuple):
    """Latents of the features, and features of the latents."""

    latents: Int[Tensor, "feature"]
    """Each feature's own latent in the one-to-one matching; `NOBODY` where it has none."""
    cosines: Float[Tensor, "feature"]
    """With that latent; 0 where there is none."""
    best: Float[Tensor, "feature"]
    """The largest cosine of the feature with any latent."""
    features: Int[Tensor, "latent"]
    """The feature that is nearest to each latent."""


def paired(directions: Float[Tensor, "feature d"], rows: Float[Tensor, "latent d_latent"]) -> Pairing:
    """Pairs true directions with the decoder rows of a dictionary.

    Raises:
        InputError: a dictionary of another width, or whose rows are not finite.
    """
    if directions.shape[1] != rows.shape[1]:
        raise InputError(f"the truth has activations of width {directions.shape[1]}, the dictionary {rows.shape[1]}")
    if not rows.isfinite().all():
        raise InputError("decoder rows that are not finite cannot be matched")
    of_features = nearest(directions, rows, min(N_NEAREST, len(rows)))
    latents, cosines = _one_to_one(directions, rows, of_features)
    features = nearest(rows, directions, 1).which[:, 0]
    return Pairing(latents, cosines, of_features.cosines[:, 0], features)


def nearest(left: Float[Tensor, "row d"], right: Float[Tensor, "other d"], k: int) -> Nearest:
    """The k rows of `right` with the largest cosines, for each of `left`, by blocks."""
    a, b = unit(left), unit(right)
    found = [(block @ b.T).topk(k, dim=1) for block in a.split(_BLOCK)]
    return Nearest(torch.cat([each.indices for each in found]), torch.cat([each.values for each in found]))


def _one_to_one(directions: Tensor, rows: Tensor, near: Nearest) -> tuple[Tensor, Tensor]:
    latents = torch.full((len(directions),), NOBODY)
    cosines = torch.zeros(len(directions))
    if max(len(directions), len(rows)) <= MOST_ASSIGNED:
        found = assigned(directions.numpy(), rows.numpy())
        pairs = torch.from_numpy(found.left)
        latents[pairs], cosines[pairs] = torch.from_numpy(found.right), torch.from_numpy(found.cosines).float()
        return latents, cosines
    which = _sparse(near, len(rows))
    some = which < len(rows)
    latents[some] = which[some]
    cosines[some] = (unit(directions[some]) * unit(rows[which[some]])).sum(1)
    return latents, cosines


def _sparse(near: Nearest, n_latents: int) -> Int[Tensor, "feature"]:
    """The best assignment among the nearest; each feature has besides a place of its own, at cosine 0."""
    n, k = near.which.shape
    feature = np.arange(n)
    column = np.concatenate([near.which.numpy().ravel(), n_latents + feature])
    # Weights are all positive, as a zero would be no edge; every feature takes one, so the shift changes nothing.
    weight = np.concatenate([near.cosines.double().numpy().ravel(), np.zeros(n)]) + 2
    graph = coo_array((weight, (np.concatenate([np.repeat(feature, k), feature]), column)), shape=(n, n_latents + n))
    found, which = min_weight_full_bipartite_matching(graph.tocsr(), maximize=True)
    return torch.from_numpy(which[np.argsort(found)]).long()
