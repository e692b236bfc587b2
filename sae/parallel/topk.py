"""Top-k of latents that several ranks divide among them.

The k largest of all lie among the k largest of each share: so each rank selects from its own, the selections are
brought together, and the k largest of those are the answer. Among equal values the lower latent wins, as in
`sae.kernels.reference`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.kernels import FixedCode
from sae.parallel.axis import Axis


def merged(parts: Sequence[FixedCode], k: int) -> FixedCode:
    """The k largest values of all shares, in descending order, by number of latent in the whole; carries gradients.

    Args:
        parts: each share's own k largest (all of its latents where it has fewer), in the order of ranks.
        k: latents kept for each token.
    """
    values = torch.cat([part.values for part in parts], -1)
    numbers = torch.cat([part.indices + first for part, first in zip(parts, _firsts(parts), strict=True)], -1)
    chosen = _largest(values, numbers, k)
    return FixedCode(values.gather(-1, chosen), numbers.gather(-1, chosen), sum(part.d_sae for part in parts))


def selected(own: FixedCode, axis: Axis, k: int) -> FixedCode:
    """A rank's selection with what is not among the k largest of all ranks set to zero; carries its own gradient.

    Decoding it with the rank's decoder rows, summed over ranks, decodes the k largest.

    Args:
        own: the k largest of this rank's latents (all of them where it has fewer), numbered within its share.
        axis: the ranks that divide the latents.
        k: latents kept for each token.
    """
    columns = own.values.shape[-1]
    values = axis.gather(own.values.detach().reshape(-1, columns).T)
    indices = axis.gather(own.indices.reshape(-1, columns).T)
    sizes = [int(size) for size in torch.cat(axis.gather(torch.tensor([own.d_sae], device=own.values.device)))]
    firsts = [sum(sizes[:rank]) for rank in range(len(sizes))]
    numbers = [index + first for index, first in zip(indices, firsts, strict=True)]
    chosen = _largest(torch.cat(values).T, torch.cat(numbers).T, k)
    is_chosen = torch.zeros_like(torch.cat(values).T, dtype=torch.bool).scatter_(-1, chosen, True)
    start = sum(len(value) for value in values[: axis.rank])
    kept = is_chosen[:, start : start + columns].view(own.values.shape)
    return FixedCode(torch.where(kept, own.values, 0), own.indices, own.d_sae)


def _firsts(parts: Sequence[FixedCode]) -> list[int]:
    """The number in the whole of each share's first latent."""
    return [sum(part.d_sae for part in parts[:rank]) for rank in range(len(parts))]


def _largest(
    values: Float[Tensor, "*token n"], numbers: Int64[Tensor, "*token n"], k: int
) -> Int64[Tensor, "*token k"]:
    """Columns of the k largest values in descending order; of equal ones the lower number first."""
    by_number = numbers.argsort(dim=-1, stable=True)
    by_value = values.detach().gather(-1, by_number).argsort(dim=-1, descending=True, stable=True)
    return by_number.gather(-1, by_value[..., :k])
