"""What a dictionary's encoder returns: the activations of its latents, sparse by type.

`DenseCode` holds a value for every latent; `FixedCode` holds k values a token and the latents that they belong to, and
`RaggedCode` any number a token, so that nothing grows with the number of latents. The union is closed: consumers
`match` on it.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DenseCode:
    """A value for every latent."""

    values: Float[Tensor, "*token d_sae"]

    @property
    def d_sae(self) -> int:
        return self.values.shape[-1]

    @property
    def n_tokens(self) -> int:
        return math.prod(self.values.shape[:-1])

    def dense(self) -> Float[Tensor, "*token d_sae"]:
        """The activation of every latent."""
        return self.values

    def l0(self) -> Int64[Tensor, "*token"]:
        """How many latents are active at each token."""
        return (self.values > 0).sum(-1)

    def fired(self) -> Bool[Tensor, "d_sae"]:
        """Which latents are active at any token."""
        return (self.values > 0).flatten(0, -2).any(0)

    def sums(self) -> Float[Tensor, "*token"]:
        """The sum of every token's values; carries the gradient."""
        return self.values.sum(-1)

    def totals(self) -> Float[Tensor, "d_sae"]:
        """The sum of every latent's values over all tokens; carries the gradient."""
        return self.values.reshape(-1, self.d_sae).sum(0)

    def detach(self) -> "DenseCode":
        """The same values without their gradient."""
        return DenseCode(self.values.detach())


@dataclass(frozen=True, eq=False)
class FixedCode:
    """At most k active latents a token: `values[…, j]` is the activation of latent `indices[…, j]`.

    Values are not negative and come in descending order from an encoder; the indices of one token are distinct. A
    value of zero is an inactive latent, whatever its index.
    """

    values: Float[Tensor, "*token k"]
    indices: Int64[Tensor, "*token k"]
    d_sae: int

    @property
    def n_tokens(self) -> int:
        return math.prod(self.values.shape[:-1])

    def dense(self) -> Float[Tensor, "*token d_sae"]:
        """The activation of every latent: [..., d_sae], zero where none is stored; carries the gradient."""
        zeros = torch.zeros(*self.values.shape[:-1], self.d_sae, dtype=self.values.dtype, device=self.values.device)
        return zeros.scatter(-1, self.indices, self.values)

    def l0(self) -> Int64[Tensor, "*token"]:
        """How many latents are active at each token."""
        return (self.values > 0).sum(-1)

    def fired(self) -> Bool[Tensor, "d_sae"]:
        """Which latents are active at any token."""
        return _fired(self.values.flatten(), self.indices.flatten(), self.d_sae)

    def sums(self) -> Float[Tensor, "*token"]:
        """The sum of every token's values; carries the gradient."""
        return self.values.sum(-1)

    def totals(self) -> Float[Tensor, "d_sae"]:
        """The sum of every latent's values over all tokens; carries the gradient."""
        return self.values.new_zeros(self.d_sae).index_add(0, self.indices.flatten(), self.values.flatten())

    def detach(self) -> "FixedCode":
        """The same values without their gradient."""
        return FixedCode(self.values.detach(), self.indices, self.d_sae)


@dataclass(frozen=True, eq=False)
class RaggedCode:
    """Any number of active latents a token: pairs (token, latent) in the order of tokens.

    `values[starts[t]:starts[t + 1]]` are the activations of latents `indices[starts[t]:starts[t + 1]]` at token t, the
    leading axes taken as one. The indices of one token are distinct, and ascend from an encoder. Values are positive as
    a rule; a value of zero is an inactive latent.
    """

    values: Float[Tensor, "pair"]
    indices: Int64[Tensor, "pair"]
    starts: Int64[Tensor, "bound"]
    """n_tokens + 1 bounds, from 0 to the number of pairs."""
    shape: tuple[int, ...]
    """Leading axes."""
    d_sae: int

    @property
    def n_tokens(self) -> int:
        return math.prod(self.shape)

    @property
    def tokens(self) -> Int64[Tensor, "pair"]:
        """The token of each pair, the leading axes taken as one."""
        counts = self.starts.diff()
        token = torch.arange(len(counts), device=counts.device)
        return token.repeat_interleave(counts, output_size=len(self.values))

    def dense(self) -> Float[Tensor, "*token d_sae"]:
        """The activation of every latent: [..., d_sae], zero where none is stored; carries the gradient."""
        zeros = self.values.new_zeros(self.n_tokens * self.d_sae)
        return zeros.scatter(0, self.tokens * self.d_sae + self.indices, self.values).view(*self.shape, self.d_sae)

    def l0(self) -> Int64[Tensor, "*token"]:
        """How many latents are active at each token."""
        n_before = torch.nn.functional.pad((self.values > 0).cumsum(0), (1, 0))
        return n_before[self.starts].diff().view(self.shape)

    def fired(self) -> Bool[Tensor, "d_sae"]:
        """Which latents are active at any token."""
        return _fired(self.values, self.indices, self.d_sae)

    def sums(self) -> Float[Tensor, "*token"]:
        """The sum of every token's values; carries the gradient."""
        return self.values.new_zeros(self.n_tokens).index_add(0, self.tokens, self.values).view(self.shape)

    def totals(self) -> Float[Tensor, "d_sae"]:
        """The sum of every latent's values over all tokens; carries the gradient."""
        return self.values.new_zeros(self.d_sae).index_add(0, self.indices, self.values)

    def detach(self) -> "RaggedCode":
        """The same values without their gradient."""
        return RaggedCode(self.values.detach(), self.indices, self.starts, self.shape, self.d_sae)


def _fired(values: Float[Tensor, "pair"], indices: Int64[Tensor, "pair"], d_sae: int) -> Bool[Tensor, "d_sae"]:
    active = (values.detach() > 0).to(torch.uint8)  # torch.bincount would ask a GPU how long its result is
    return active.new_zeros(d_sae).scatter_reduce_(0, indices, active, "amax") > 0


Code = DenseCode | FixedCode | RaggedCode
