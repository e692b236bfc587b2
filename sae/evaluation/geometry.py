"""The shape of a dictionary: what its weights alone say, so that no document and no interval comes in.

1. Nearest neighbour: for each latent the largest cosine of its decoder row with another latent's. Beside it stands
   what random rows of the same mean and covariance give (`sae.core.matching.chance`).
2. Duplicates: firing latents with another firing one above `DUPLICATE`: capacity spent twice. Dead rows are left out,
   for they are where they were drawn.
3. Alignment: the cosine of what a latent reads with what it writes, where both lie in one space.
4. Effective rank: (Σ λ)² / Σ λ² over the eigenvalues λ of Σ_i d_i d_iᵀ, rows at unit length: in how many dimensions
   the rows lie.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.core.config import Strict
from sae.core.matching import chance
from sae.core.measures import cosine, unit
from sae.dictionary.dictionary import Dictionary

DUPLICATE = 0.9
"""Cosine above which two decoder rows count as one."""
_BLOCK = 1024
_FEWEST = 2


class Spread(Strict):
    """Some quantiles of a number that every latent has."""

    p05: float
    p50: float
    p95: float


class Geometry(Strict):
    """The weights of a dictionary; null where there is nothing to compare."""

    n_firing: int
    """Latents that fire on the split; nearest neighbours and duplicates are among them."""
    decoder_norm: Spread
    """Lengths of the decoder rows, all latents."""
    nearest_cosine: Spread | None
    chance_nearest_cosine: Spread | None
    duplicate_fraction: float | None
    """Of the firing latents."""
    duplicate_above: float = DUPLICATE
    effective_rank: float
    """Of the decoder, all latents; at most the width of what it writes."""
    encoder_decoder_cosine: Spread | None
    """All latents; null for a transcoder, which reads and writes other spaces."""


@torch.no_grad()
def geometry(dictionary: Dictionary, dead: Bool[np.ndarray, "latent"], seed: int) -> Geometry:
    """The shape of a dictionary.

    Args:
        dictionary: trained or not.
        dead: latents that never fire.
        seed: of the random rows.
    """
    rows = dictionary.W_dec.detach().float().cpu()
    firing = rows[torch.from_numpy(~dead)]
    nearest = nearest_cosines(firing)
    some = len(firing) >= _FEWEST
    random = torch.from_numpy(chance(firing.numpy(), seed)) if some else firing
    return Geometry(
        n_firing=len(firing),
        decoder_norm=spread(rows.norm(dim=1)),
        nearest_cosine=spread(nearest) if some else None,
        chance_nearest_cosine=spread(nearest_cosines(random)) if some else None,
        duplicate_fraction=float((nearest > DUPLICATE).double().mean()) if some else None,
        effective_rank=_effective_rank(unit(rows).double()),
        encoder_decoder_cosine=_alignment(dictionary),
    )


def nearest_cosines(rows: Float[Tensor, "latent d"]) -> Float[Tensor, "latent"]:
    """For each row the largest cosine with another; −1 for a single one."""
    directions, found = unit(rows), []
    for start in range(0, len(rows), _BLOCK):
        block = directions[start : start + _BLOCK] @ directions.T
        own = torch.arange(len(block))
        block[own, start + own] = -1
        found.append(block.amax(1))
    return torch.cat(found) if found else rows.new_zeros(0)


def spread(values: Float[Tensor, "latent"]) -> Spread:
    """The quantiles of some numbers, at least one."""
    low, middle, high = np.quantile(values.cpu().numpy().astype(np.float64), [0.05, 0.5, 0.95]).tolist()
    return Spread(p05=low, p50=middle, p95=high)


def _effective_rank(rows: Float[Tensor, "latent d"]) -> float:
    products = rows.T @ rows
    total = float(products.trace())
    return total**2 / float(products.square().sum()) if total else 0.0


def _alignment(dictionary: Dictionary) -> Spread | None:
    config = dictionary.config
    if config.d_in != config.d_out or config.target not in (None, config.site):
        return None
    return spread(cosine(dictionary.encoder_rows.detach().float(), dictionary.W_dec.detach().float()))
