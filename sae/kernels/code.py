"""What a dictionary's encoder returns: the activations of its latents, sparse by type.

`DenseCode` holds a value for every latent; `FixedCode` holds k values and the latents that they belong to, so that
nothing grows with the number of latents. The union is closed: consumers `match` on it.
"""

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

    def dense(self) -> Float[Tensor, "*token d_sae"]:
        """The activation of every latent."""
        return self.values

    def l0(self) -> Int64[Tensor, "*token"]:
        """How many latents are active at each token."""
        return (self.values > 0).sum(-1)

    def fired(self) -> Bool[Tensor, "d_sae"]:
        """Which latents are active at any token."""
        return (self.values > 0).flatten(0, -2).any(0)

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

    def dense(self) -> Float[Tensor, "*token d_sae"]:
        """The activation of every latent: [..., d_sae], zero where none is stored; carries the gradient."""
        zeros = torch.zeros(*self.values.shape[:-1], self.d_sae, dtype=self.values.dtype, device=self.values.device)
        return zeros.scatter(-1, self.indices, self.values)

    def l0(self) -> Int64[Tensor, "*token"]:
        """How many latents are active at each token."""
        return (self.values > 0).sum(-1)

    def fired(self) -> Bool[Tensor, "d_sae"]:
        """Which latents are active at any token."""
        values = self.values.detach().flatten()
        return values.new_zeros(self.d_sae).index_add_(0, self.indices.flatten(), (values > 0).to(values.dtype)) > 0

    def detach(self) -> "FixedCode":
        """The same values without their gradient."""
        return FixedCode(self.values.detach(), self.indices, self.d_sae)


Code = DenseCode | FixedCode
