"""The loops that a spelling of the sparse path is made of: abstract here, in torch in `sparse`, in C++ in `cpu`.

A pair is a token with a latent. Pairs lie in the order of tokens, and `starts` bounds those of each token.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Bounds = Int64[Tensor, "*bound"]


class Pairs(NamedTuple):
    """(token, latent) pairs with a value each."""

    values: Float[Tensor, "pair"]
    indices: Int64[Tensor, "pair"]
    starts: Bounds


class ByLatent(NamedTuple):
    """Sums over the tokens of each latent."""

    rows: Float[Tensor, "d_sae d"]
    """Of weight · source[token]."""
    totals: Float[Tensor, "d_sae"]
    """Of the weights alone."""


class Slot(NamedTuple):
    """A parameter, its gradient and Adam's moments, seen as rows."""

    parameter: Float[Tensor, "row d"]
    gradient: Float[Tensor, "row d"]
    mean: Float[Tensor, "row d"]
    """Of the gradient; both moments in the parameter's precision or in bfloat16 (`sae.kernels.rounding`)."""
    square: Float[Tensor, "row d"]
    """Mean of its square."""
    n_steps: int
    """Steps that it was moved by, this one included."""
    unit: bool = False
    """Rows have unit norm and keep it."""


class AdamStep(NamedTuple):
    """One step of Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1)."""

    rate: float
    clip: float
    """Largest norm of all gradients together."""
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


class Loops(ABC):
    """Every sum has a fixed order, so equal runs give equal bits."""

    takes_narrow_rows = False
    """Whether rows of less precision than weights and sums are read as they are; so autocast's are."""

    def whole_share(self, kind: torch.dtype) -> float:
        """Share of all pairs of a token with a latent from which whole products of that precision are faster."""
        return 1 / 24

    @abstractmethod
    def select(
        self,
        pre: Float[Tensor, "token d_sae"],
        bias: Float[Tensor, "d_sae"],
        values: Float[Tensor, "token k"],
        indices: Int64[Tensor, "token k"],
    ) -> None:
        """Writes the k largest of pre + bias, in descending order; `pre` may be overwritten."""

    def refine(
        self,
        x: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        bias: Float[Tensor, "d_sae"],
        values: Float[Tensor, "token k"],
        indices: Int64[Tensor, "token k"],
    ) -> None:
        """Computes the values of latents that were selected in another precision, and puts them in descending order."""
        starts = even_bounds(indices.numel(), indices.shape[-1], x.device)
        exact = self.dots(x, rows, indices.flatten(), starts).view_as(values) + bias[indices]
        torch.sort(exact, dim=-1, descending=True, stable=True, out=(values, order := torch.empty_like(indices)))
        indices.copy_(indices.gather(-1, order))

    @abstractmethod
    def above(
        self, pre: Float[Tensor, "token d_sae"], bias: Float[Tensor, "d_sae"], floor: Float[Tensor, "d_sae"]
    ) -> Pairs:
        """Every pre + bias above its floor, or no number, latents ascending; `pre` may be overwritten."""

    def mark(
        self,
        pre: Float[Tensor, "token d_sae"],
        bias: Float[Tensor, "d_sae"],
        floor: Float[Tensor, "d_sae"],
        ceiling: Float[Tensor, "d_sae"],
        marks: Bool[Tensor, "token d_sae"],
    ) -> None:
        """Writes whether pre + bias lies above its floor and not above its ceiling."""
        h = pre.to(bias.dtype) + bias
        torch.logical_and(h > floor, h <= ceiling, out=marks)

    def add_marked(
        self, block: Float[Tensor, "token d_sae"], marks: Bool[Tensor, "token d_sae"], sums: Float[Tensor, "d_sae"]
    ) -> None:
        """Adds to the sums what is marked of each latent, tokens ascending; the block may be overwritten."""
        sums += block.masked_fill_(~marks, 0).sum(0)

    @abstractmethod
    def bag(
        self,
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
        rows: Float[Tensor, "row d"],
        weights: Float[Tensor, "pair"],
    ) -> Float[Tensor, "token d"]:
        """Σ over the pairs of each token of weight · rows[index]."""

    @abstractmethod
    def dots(
        self,
        left: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
    ) -> Float[Tensor, "pair"]:
        """left[token] · rows[index] for every pair, in their precision or a higher one."""

    @abstractmethod
    def take(
        self,
        block: Float[Tensor, "token d_sae"],
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
        out: Float[Tensor, "pair"],
    ) -> None:
        """Writes block[token, index] for every pair; bounds and pairs are of the block's tokens alone."""

    @abstractmethod
    def by_latent(self, pairs: Pairs, source: Float[Tensor, "token d"], d_sae: int) -> ByLatent:
        """Sums over the tokens of each latent, tokens ascending; the pairs' values are the weights."""

    @abstractmethod
    def squares(
        self, gradient: Float[Tensor, "row d"], unit_rows: Float[Tensor, "row d"] | None
    ) -> Float[Tensor, "part"]:
        """Σ gradient² of each row, or of its parts; what lies along `unit_rows`, if any, is removed first, in place."""

    @abstractmethod
    def adam(self, slot: Slot, scale: Float[Tensor, ""], how: AdamStep) -> None:
        """Moves the rows along their gradient times `scale`, in place, each row visited once; where that is no number,
        nothing moves."""


def bounds(counts: Int64[Tensor, "group"]) -> Bounds:
    """Where groups of these sizes begin, and the end of the last."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def even_bounds(n_pairs: int, k: int, device: torch.device) -> Bounds:
    """Bounds of groups of k."""
    return torch.arange(0, n_pairs + 1, k, device=device)
