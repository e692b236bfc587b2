"""The sparse path in plain torch, for any device and precision.

1. Decoding is a weighted bag of k decoder rows (`embedding_bag`).
2. A latent's parameter gradient is a weighted bag of the tokens at which it was selected: pairs are sorted by latent,
   then bagged.
3. A value's gradient is one dot product between the output's gradient and a decoder row (`sampled_addmm`).

Same functions as `sae.kernels.reference`.
"""

import functools
import warnings

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch.optim.adam import adam as fused_adam

from sae.kernels.loops import AdamStep, Bounds, ByLatent, Loops, Pairs, Slot, bounds
from sae.kernels.rounding import keep, widened
from sae.kernels.spelling import Spelling


class TorchLoops(Loops):
    """Each loop one or a few of torch's own operators."""

    def select(
        self,
        pre: Float[Tensor, "token d_sae"],
        bias: Float[Tensor, "d_sae"],
        values: Float[Tensor, "token k"],
        indices: Int64[Tensor, "token k"],
    ) -> None:
        torch.topk(self._with_bias(pre, bias), values.shape[-1], dim=-1, out=(values, indices))

    @staticmethod
    def _with_bias(pre: Float[Tensor, "token d_sae"], bias: Float[Tensor, "d_sae"]) -> Float[Tensor, "token d_sae"]:
        """Their sum, in the bias's precision; in place where it is that of both."""
        return pre.add_(bias) if pre.dtype == bias.dtype else pre.to(bias.dtype) + bias

    def above(
        self, pre: Float[Tensor, "token d_sae"], bias: Float[Tensor, "d_sae"], floor: Float[Tensor, "d_sae"]
    ) -> Pairs:
        pre = self._with_bias(pre, bias) if bias.any() else pre.to(bias.dtype)
        token, latent = (pre <= floor).logical_not_().nonzero(as_tuple=True)
        # torch.bincount would ask a GPU how long its result is.
        counts = token.new_zeros(len(pre)).scatter_add_(0, token, torch.ones_like(token))
        return Pairs(pre[token, latent], latent, bounds(counts))

    def bag(
        self,
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
        rows: Float[Tensor, "row d"],
        weights: Float[Tensor, "pair"],
    ) -> Float[Tensor, "token d"]:
        if not len(indices):
            return rows.new_zeros(len(starts) - 1, rows.shape[1])
        return embedding_bag(indices, rows, starts, per_sample_weights=weights, mode="sum", include_last_offset=True)

    def dots(
        self,
        left: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
    ) -> Float[Tensor, "pair"]:
        if not len(indices):
            return left.new_zeros(0)
        if left.dtype in (torch.bfloat16, torch.float16):  # which sampled_addmm does not know
            return self.dots(left.float(), rows.float(), indices, starts).to(left.dtype)
        _silence_beta_notice()
        pattern = torch.sparse_csr_tensor(starts, indices, left.new_zeros(len(indices)), (len(left), len(rows)))
        return torch.sparse.sampled_addmm(pattern, left, rows.T, beta=0.0).values()

    def take(
        self,
        block: Float[Tensor, "token d_sae"],
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
        out: Float[Tensor, "pair"],
    ) -> None:
        token = torch.arange(len(block), device=block.device)
        out.copy_(block[token.repeat_interleave(starts.diff(), output_size=len(indices)), indices])

    def by_latent(self, pairs: Pairs, source: Float[Tensor, "token d"], d_sae: int) -> ByLatent:
        order = torch.sort(pairs.indices, stable=True).indices
        tokens = torch.searchsorted(pairs.starts, order, right=True) - 1
        groups = bounds(torch.bincount(pairs.indices, minlength=d_sae))
        totals = pairs.values.new_zeros(d_sae).index_add_(0, pairs.indices, pairs.values)
        return ByLatent(self.bag(tokens, groups, source, pairs.values[order]), totals)

    def squares(
        self, gradient: Float[Tensor, "row d"], unit_rows: Float[Tensor, "row d"] | None
    ) -> Float[Tensor, "row"]:
        if unit_rows is not None:
            gradient.addcmul_(unit_rows, torch.linalg.vecdot(gradient, unit_rows)[:, None], value=-1.0)
        return torch.linalg.vecdot(gradient, gradient)

    def adam(self, slot: Slot, scale: Float[Tensor, ""], how: AdamStep) -> None:
        if scale.isnan():
            return
        wide = widened(slot)
        # Scaling by torch's own `grad_scale` would cost as much: it writes the gradient back.
        fused_adam(
            [slot.parameter],
            [slot.gradient.mul_(scale)],
            [wide.mean],
            [wide.square],
            [],
            [torch.tensor(slot.n_steps - 1.0, device=slot.parameter.device)],
            fused=True,
            amsgrad=False,
            beta1=how.beta1,
            beta2=how.beta2,
            lr=how.rate,
            weight_decay=0.0,
            eps=how.epsilon,
            maximize=False,
        )
        keep(slot, wide)
        if slot.unit:
            norm = slot.parameter.norm(dim=1, keepdim=True)
            slot.parameter.div_(norm.clamp_min(torch.finfo(norm.dtype).tiny))


@functools.cache
def _silence_beta_notice() -> None:
    """torch says once a process that CSR tensors are in beta; it says so here, to nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.empty(0, dtype=torch.int64), torch.empty(0), (1, 1))


LOOPS = TorchLoops()
_spelling = Spelling(LOOPS)
topk, encode_topk, largest = _spelling.topk, _spelling.encode_topk, _spelling.largest
encode_batchtopk, encode_threshold, above = _spelling.encode_batchtopk, _spelling.encode_threshold, _spelling.above
sparsify, sparse_decode, descend = _spelling.sparsify, _spelling.sparse_decode, _spelling.descend
above_and_between, marked_sums = _spelling.above_and_between, _spelling.marked_sums
