"""Latents whose decoder directions lie closest, by cosine, found block by block.

A block of rows against all others takes block × d_sae numbers, never d_sae × d_sae.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.core.measures import unit

_CELLS = 2**23
"""Largest number of cosines held at once."""


class Neighbours(NamedTuple):
    """The nearest latents of every latent, nearest first."""

    latents: Int[Tensor, "latent n"]
    cosines: Float[Tensor, "latent n"]


def neighbours(directions: Float[Tensor, "latent d"], n: int) -> Neighbours:
    """The `n` nearest other latents of each; fewer where there are not as many.

    A direction of length zero has cosine 0 with everything.
    """
    n_latents = len(directions)
    n = min(n, n_latents - 1)
    rows = unit(directions.float())
    step = max(1, _CELLS // n_latents)
    blocks = [_of_block(rows, start, min(start + step, n_latents), n) for start in range(0, n_latents, step)]
    return Neighbours(torch.cat([b.latents for b in blocks]), torch.cat([b.cosines for b in blocks]))


def _of_block(rows: Float[Tensor, "latent d"], start: int, stop: int, n: int) -> Neighbours:
    cosines = rows[start:stop] @ rows.T
    own = torch.arange(stop - start)
    cosines[own, own + start] = -torch.inf
    best = cosines.topk(n, dim=1)
    return Neighbours(best.indices, best.values.clamp(-1, 1))
