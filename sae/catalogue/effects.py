"""What a latent adds to the logits through the unembedding alone: its most promoted and most suppressed tokens.

One unit of a latent at a residual site adds its decoder direction to the stream; read off by the unembedding, that is
`W_dec[latent] · W_U`, with the final norm's weight folded in and centred over the vocabulary (`sae.lm.unembed`). The
final norm's scale, which depends on the text, and all later blocks are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.lm.site import parse_site

_CELLS = 2**23
"""Largest number of logits held at once."""

RESIDUAL = ("embed", "resid_pre", "resid_mid", "resid_post", "final", "attn_out", "mlp_out")
"""Sites that are in the residual stream or are added to it."""


@dataclass(frozen=True)
class Effects:
    """The strongest tokens of every latent, strongest first, in logits per unit of activation."""

    promoted_ids: Int[np.ndarray, "latent n"]
    promoted_logits: Float[np.ndarray, "latent n"]
    suppressed_ids: Int[np.ndarray, "latent n"]
    suppressed_logits: Float[np.ndarray, "latent n"]


def writes_to_residual(site: str) -> bool:
    """Whether directions at a site can be read off by the unembedding."""
    return parse_site(site).name in RESIDUAL


def no_effects(n_latents: int) -> Effects:
    """For a site outside the residual stream: no tokens."""
    ids, logits = np.zeros((n_latents, 0), dtype=np.int32), np.zeros((n_latents, 0), dtype=np.float32)
    return Effects(ids, logits, ids, logits)


def effects(directions: Float[Tensor, "latent d"], unembedding: Float[Tensor, "d vocab"], n: int) -> Effects:
    """The `n` most promoted and most suppressed tokens of every direction, block by block.

    Args:
        directions: decoder rows, in the units of the model.
        unembedding: see `sae.lm.unembed.unembedding`.
        n: tokens kept on each side, at most the vocabulary.
    """
    n_vocab = unembedding.shape[1]
    parts = list(_blocks(directions.float(), unembedding, min(n, n_vocab)))
    return Effects(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _blocks(
    directions: Float[Tensor, "latent d"], unembedding: Float[Tensor, "d vocab"], n: int
) -> Iterator[tuple[np.ndarray, ...]]:
    for block in directions.split(max(1, _CELLS // unembedding.shape[1])):
        logits = block @ unembedding
        up, down = torch.topk(logits, n, dim=1), torch.topk(logits, n, dim=1, largest=False)
        yield tuple(t.cpu().numpy() for t in (up.indices.int(), up.values, down.indices.int(), down.values))
