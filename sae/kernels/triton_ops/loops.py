"""The loops of the sparse path as Triton kernels; torch's own operators do what only counts and sorts."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.kernels.loops import AdamStep, Bounds, ByLatent, Pairs, Slot, bounds, even_bounds
from sae.kernels.sparse import TorchLoops
from sae.kernels.triton_ops import adam_rows, bag, dots, select, whole


class _Grouped(NamedTuple):
    """A code's pairs by latent, in their order."""

    indices: Int64[Tensor, "pair"]
    """The latents of its pairs, kept: while they are, no other code has their memory."""
    seen: tuple[int, ...]
    """What tells whether others are the same."""
    order: Int64[Tensor, "pair"]
    """Where each of them is in the code."""
    starts: Bounds
    """Of each latent's pairs."""


class TritonLoops(TorchLoops):
    """Each loop one or two kernels; selections of any number of latents are torch's."""

    takes_narrow_rows = True
    _last: _Grouped | None = None
    """A step sums decoder and encoder rows by the same code's latents."""

    def whole_share(self, kind: torch.dtype) -> float:
        """By an H200's rates: 4.2 TB/s of rows (of a GPU's cache more), 50 TFLOP/s of float32, 700 of bfloat16."""
        return 1 / 24 if kind == torch.float32 else 1 / 96

    def select(
        self,
        pre: Float[Tensor, "token d_sae"],
        bias: Float[Tensor, "d_sae"],
        values: Float[Tensor, "token k"],
        indices: Int64[Tensor, "token k"],
    ) -> None:
        select.select(pre, bias.contiguous(), values, indices)
        select.order(values, indices)

    def refine(
        self,
        x: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        bias: Float[Tensor, "d_sae"],
        values: Float[Tensor, "token k"],
        indices: Int64[Tensor, "token k"],
    ) -> None:
        starts = even_bounds(indices.numel(), indices.shape[1], x.device)
        dots.dots(x, rows, indices.view(-1), starts, values.view(-1), bias)
        select.order(values, indices)

    def bag(
        self,
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
        rows: Float[Tensor, "row d"],
        weights: Float[Tensor, "pair"],
    ) -> Float[Tensor, "token d"]:
        if len(indices) > self.whole_share(rows.dtype) * (len(starts) - 1) * len(rows):
            return whole.bag(Pairs(weights, indices, starts), rows)
        return bag.bag(indices, starts, rows, weights).rows

    def dots(
        self,
        left: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
    ) -> Float[Tensor, "pair"]:
        out = torch.empty(len(indices), device=left.device)
        dots.dots(left, rows, indices, starts, out)
        return out

    def by_latent(self, pairs: Pairs, source: Float[Tensor, "token d"], d_sae: int) -> ByLatent:
        if len(pairs.indices) > self.whole_share(source.dtype) * len(source) * d_sae:
            return whole.by_latent(pairs, source, d_sae)
        by = self._grouped(pairs.indices, d_sae)
        tokens = torch.searchsorted(pairs.starts, by.order, right=True) - 1
        return ByLatent(*bag.bag(tokens, by.starts, source, pairs.values[by.order]))

    def _grouped(self, indices: Int64[Tensor, "pair"], d_sae: int) -> _Grouped:
        indices, last = indices.contiguous(), self._last
        if indices.is_inference() or (indices.is_cuda and torch.cuda.is_current_stream_capturing()):
            return _Grouped(indices, (), *_by_latent(indices, d_sae))  # nothing tells whether it changes
        seen = (indices.data_ptr(), indices.get_device(), len(indices), indices._version, d_sae)
        if last is not None and last.seen == seen and last.indices.dtype == indices.dtype:
            return last
        self._last = last = _Grouped(indices, seen, *_by_latent(indices, d_sae))
        return last

    def squares(
        self, gradient: Float[Tensor, "row d"], unit_rows: Float[Tensor, "row d"] | None
    ) -> Float[Tensor, "part"]:
        return adam_rows.squares(gradient, unit_rows)

    def adam(self, slot: Slot, scale: Float[Tensor, ""], how: AdamStep) -> None:
        adam_rows.adam(slot, scale, how)


def _by_latent(indices: Int64[Tensor, "pair"], d_sae: int) -> tuple[Int64[Tensor, "pair"], Bounds]:
    """The order of pairs by latent, and where those of each latent begin."""
    # A sort goes over the bits of its numbers: half as many take half as long.
    order = torch.sort(indices.to(torch.int32), stable=True).indices
    # torch.bincount would ask the host how long its result is.
    counts = torch.zeros(d_sae, dtype=torch.int64, device=order.device)
    counts.scatter_add_(0, indices, torch.ones_like(indices))
    return order, bounds(counts)
