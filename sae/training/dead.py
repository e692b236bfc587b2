"""Dead latents: those that have not fired for a number of tokens.

Gao et al. 2024 count a latent as dead after 10 million tokens, in runs of billions. A run of a few million needs a
window that leaves dead latents time to come back: auto is `RUN_SHARE` of the run, at most 10 million tokens and
at least a few batches.
"""

from typing import Literal

from jaxtyping import Bool, Int64
from torch import Tensor

RUN_SHARE = 1 / 20
LONGEST = 10_000_000
FEWEST_BATCHES = 4


def window(dead_after_tokens: int | Literal["auto"], tokens: int, batch: int) -> int:
    """Tokens without firing after which a latent is dead."""
    if dead_after_tokens != "auto":
        return dead_after_tokens
    return max(min(int(tokens * RUN_SHARE), LONGEST), FEWEST_BATCHES * batch)


def count(tokens_since_fired: Int64[Tensor, "d_sae"], fired: Bool[Tensor, "d_sae"], n_tokens: int) -> None:
    """Adds a batch of `n_tokens` to the counters, in place; latents that fired begin again at zero."""
    tokens_since_fired.add_(n_tokens).masked_fill_(fired, 0)


def is_dead(tokens_since_fired: Int64[Tensor, "d_sae"], after: int) -> Bool[Tensor, "d_sae"]:
    """Latents that have not fired for `after` tokens."""
    return tokens_since_fired >= after
