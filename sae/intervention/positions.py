"""Where an edit acts: a rule from the pass under way to the positions that change.

Everywhere else the activation keeps its bits: a rule selects, it never blends.
"""

from collections.abc import Callable, Collection

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.core.errors import InputError
from sae.lm.hooks import Context

Positions = Callable[[Context], Bool[Tensor, "batch position"] | None]
"""True where the edit acts; None stands for everywhere."""


def everywhere() -> Positions:
    """Every position, padding included: nothing sees it."""
    return lambda context: None


def at(mask: Bool[Tensor, "batch position"]) -> Positions:
    """The positions where `mask` is true; one row stands for every text of the batch."""
    return lambda context: mask


def except_tokens(ids: Collection[int]) -> Positions:
    """Every position but those that hold one of these tokens: BOS, say, which a dictionary never saw."""
    left_out = torch.tensor(sorted(ids), dtype=torch.long)

    def rule(context: Context) -> Bool[Tensor, "batch position"]:
        if context.tokens is None:
            raise InputError("positions chosen by token need token ids; the model was given embeddings")
        return ~torch.isin(context.tokens, left_out.to(context.tokens.device))

    return rule


def selected(
    positions: Positions, context: Context, x: Float[Tensor, "batch position d"], y: Float[Tensor, "batch position d"]
) -> Float[Tensor, "batch position d"]:
    """y where the rule selects, x elsewhere.

    Raises:
        InputError: the rule's mask has another number of texts or positions than the activation.
    """
    mask = positions(context)
    if mask is None:
        return y
    if mask.shape[0] not in (1, x.shape[0]) or mask.shape[1] != x.shape[1]:
        raise InputError(
            f"positions are for {list(mask.shape)} [batch, position], the activation has {list(x.shape[:2])}"
        )
    return torch.where(mask.to(x.device)[..., None], y, x)
