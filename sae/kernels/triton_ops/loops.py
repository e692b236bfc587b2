"""The loops of the sparse path as Triton kernels; torch's own operators do what only counts and sorts."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.kernels.loops import AdamStep, Bounds, ByLatent, Pairs, Slot, bounds
from sae.kernels.sparse import TorchLoops
from sae.kernels.triton_ops import adam_rows, bag, dots, fused, select


class TritonLoops(TorchLoops):
    """Each loop one or two kernels; selections of any number of latents are torch's."""

    def encode(
        self,
        x: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        bias: Float[Tensor, "d_sae"],
        values: Float[Tensor, "token k"],
        indices: Int64[Tensor, "token k"],
    ) -> bool:
        if not fused.takes(x, rows, values.shape[1]):
            return False
        fused.largest(x, rows, bias, values, indices)
        return True

    def select(
        self,
        pre: Float[Tensor, "token d_sae"],
        bias: Float[Tensor, "d_sae"],
        values: Float[Tensor, "token k"],
        indices: Int64[Tensor, "token k"],
    ) -> None:
        select.select(pre, bias.contiguous(), values, indices)

    def bag(
        self,
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
        rows: Float[Tensor, "row d"],
        weights: Float[Tensor, "pair"],
    ) -> Float[Tensor, "token d"]:
        return bag.bag(indices, starts, rows, weights).rows

    def dots(
        self,
        left: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
    ) -> Float[Tensor, "pair"]:
        return dots.dots(left, rows, indices, starts)

    def by_latent(self, pairs: Pairs, source: Float[Tensor, "token d"], d_sae: int) -> ByLatent:
        # A sort goes over the bits of its numbers: half as many take half as long.
        order = torch.sort(pairs.indices.to(torch.int32), stable=True).indices
        tokens = torch.searchsorted(pairs.starts, order, right=True) - 1
        # torch.bincount would ask the host how long its result is.
        counts = torch.zeros(d_sae, dtype=torch.int64, device=source.device)
        counts.scatter_add_(0, pairs.indices, torch.ones_like(pairs.indices))
        return ByLatent(*bag.bag(tokens, bounds(counts), source, pairs.values[order]))

    def squares(
        self, gradient: Float[Tensor, "row d"], unit_rows: Float[Tensor, "row d"] | None
    ) -> Float[Tensor, "row"]:
        return adam_rows.squares(gradient, unit_rows)

    def adam(self, slot: Slot, scale: Float[Tensor, ""], how: AdamStep) -> None:
        adam_rows.adam(slot, scale, how)
