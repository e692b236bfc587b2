"""The linear map before an activation: as a whole, or only where it exceeds a floor.

    h = (x − c) W_enc + b_enc

Activations that are not bounded in number (ReLU, JumpReLU, a gate) are computed from (token, latent) pairs where these
are few, which spares five of a step's six products, and from the whole of h where they are many. A few evenly spaced
tokens say which, so that equal inputs always take the same way.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae import kernels
from sae.dictionary.near import Near
from sae.kernels import Code, RaggedCode

N_SAMPLED = 64
"""Tokens that are looked at. Fewer than twice as many are computed as a whole."""


class Encoded(NamedTuple):
    """A code, and what decided which latents fire."""

    code: Code
    gate: Code
    """A gate's positive pre-activations; JumpReLU's steps while it trains, 1 where a latent is on; else the code."""
    near: Near | None = None
    """JumpReLU's pre-activations near their threshold that do not fire, where they are no pairs of the code."""


class Linear(NamedTuple):
    """The map, and what it reads."""

    x: Float[Tensor, "*token d_in"]
    rows: Float[Tensor, "d_sae d_in"]
    """What each latent reads."""
    bias: Float[Tensor, "d_sae"]
    centre: Float[Tensor, "d_in"] | None
    """What is subtracted from x."""
    selection: torch.dtype | None = None
    """Precision that decides where a floor is exceeded; left out: that of x, or autocast's."""

    def whole(self) -> Float[Tensor, "*token d_sae"]:
        """h of every latent."""
        return (self.x if self.centre is None else self.x - self.centre) @ self.rows.T + self.bias

    def above(self, floor: Float[Tensor, "d_sae"]) -> RaggedCode:
        """h where it exceeds its floor, whatever its sign, or is no number."""
        return kernels.above(self.x, self.rows, self.bias, floor, self.centre, self.selection)

    def above_and_between(
        self, floor: Float[Tensor, "d_sae"], threshold: Float[Tensor, "d_sae"]
    ) -> tuple[RaggedCode, Bool[Tensor, "token d_sae"]]:
        """h where it exceeds its threshold; and where it exceeds the floor only."""
        return kernels.above_and_between(self.x, self.rows, self.bias, floor, threshold, self.centre, self.selection)

    def is_rarely_above(self, floor: Float[Tensor, "d_sae"], share: float) -> bool:
        """Whether at most `share` of all pairs exceed their floor, as far as a sample says; not of a few tokens."""
        return self.shares_above(floor)[0] <= share

    def shares_above(self, *floors: Float[Tensor, "d_sae"]) -> list[float]:
        """The share of pairs above each floor, as far as a sample says; of a few tokens, infinite."""
        tokens = self.x.reshape(-1, self.x.shape[-1])
        if torch.compiler.is_compiling() or len(tokens) < 2 * N_SAMPLED:  # a trace cannot look at numbers
            return [math.inf] * len(floors)
        with torch.no_grad():
            sample = self._replace(x=tokens[:: len(tokens) // N_SAMPLED]).whole()
            return [float((sample > floor).sum()) / sample.numel() for floor in floors]
