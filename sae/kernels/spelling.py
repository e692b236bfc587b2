"""The functions of `sae.kernels` over a set of loops: one dense product, the encoder's; all else touches pairs.

`sae.kernels.reference` defines them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.kernels import selection as selected
from sae.kernels.checks import check_k, check_overflow, check_pairs
from sae.kernels.code import Code, DenseCode, FixedCode, RaggedCode
from sae.kernels.gradients import Attach, Decode
from sae.kernels.loops import AdamStep, Loops, Pairs, Slot, even_bounds


@dataclass(frozen=True)
class Spelling:
    """Equal to the reference in value and gradient, whatever the loops."""

    loops: Loops

    def topk(self, pre: Float[Tensor, "*token d_sae"], k: int) -> FixedCode:
        """The k largest pre-activations of each token in descending order, negative ones set to zero."""
        values, indices = pre.topk(k, dim=-1)
        return FixedCode(values.relu(), indices, pre.shape[-1])

    def encode_topk(
        self,
        x: Float[Tensor, "*token d_in"],
        encoder_rows: Float[Tensor, "d_sae d_in"],
        b_enc: Float[Tensor, "d_sae"],
        k: int,
        centre: Float[Tensor, "d_in"] | None = None,
        selection: torch.dtype | None = None,
    ) -> FixedCode:
        """TopK of the linear map of x − centre; `encoder_rows[f]` is what latent f reads.

        With a `selection` of less precision, such as bfloat16 (under autocast its own), latents are chosen in that
        precision and their values computed in the precision of x.
        """
        code = self.largest(x, encoder_rows, b_enc, k, centre, selection)
        return FixedCode(code.values.relu(), code.indices, code.d_sae)

    def largest(
        self,
        x: Float[Tensor, "*token d_in"],
        encoder_rows: Float[Tensor, "d_sae d_in"],
        b_enc: Float[Tensor, "d_sae"],
        k: int,
        centre: Float[Tensor, "d_in"] | None = None,
        selection: torch.dtype | None = None,
    ) -> FixedCode:
        """As `encode_topk`, negative values as they are."""
        check_k("largest", k, len(encoder_rows))
        flat = _centred(x, centre)
        fixed = flat.detach(), encoder_rows.detach(), b_enc.detach()
        pairs = selected.largest_of_tokens(self.loops, *fixed, k, selection or precision(x), self._read_in(x))
        check_overflow(pairs.values, x)
        values = Attach.apply(self.loops, pairs, flat, encoder_rows, b_enc, centre, self._read_in(x))
        assert isinstance(values, Tensor)
        shape = (*x.shape[:-1], k)
        return FixedCode(values.view(shape), pairs.indices.view(shape), len(encoder_rows))

    def encode_batchtopk(
        self,
        x: Float[Tensor, "*token d_in"],
        encoder_rows: Float[Tensor, "d_sae d_in"],
        b_enc: Float[Tensor, "d_sae"],
        k: int,
        centre: Float[Tensor, "d_in"] | None = None,
        selection: torch.dtype | None = None,
    ) -> RaggedCode:
        """The k · n_tokens largest pre-activations of the whole batch, of those that are positive; latents ascend.

        Where pre-activations are equal the earlier token and the lower latent win. With a `selection` of less
        precision, what it takes for positive may have a value of zero.
        """
        flat, kind = _centred(x, centre), selection or precision(x)
        fixed = flat.detach(), encoder_rows.detach(), b_enc.detach()
        pairs = selected.largest_of_batch(self.loops, *fixed, k * len(flat), kind)
        check_overflow(pairs.values, x)
        code = self._ragged(pairs, flat, encoder_rows, b_enc, centre, x.shape[:-1])
        return code if kind == x.dtype else replace(code, values=code.values.relu())

    def encode_threshold(
        self,
        x: Float[Tensor, "*token d_in"],
        encoder_rows: Float[Tensor, "d_sae d_in"],
        b_enc: Float[Tensor, "d_sae"],
        threshold: Float[Tensor, "d_sae"] | Float[Tensor, ""] | float,
        centre: Float[Tensor, "d_in"] | None = None,
        selection: torch.dtype | None = None,
    ) -> RaggedCode:
        """Every pre-activation above max(threshold, 0); no gradient for the threshold.

        With a `selection` of less precision, what it takes for larger may have a value of zero.
        """
        kind = selection or precision(x)
        floor = torch.as_tensor(threshold, dtype=x.dtype, device=x.device).detach().clamp_min(0).expand_as(b_enc)
        code = self.above(x, encoder_rows, b_enc, floor, centre, kind)
        if kind == x.dtype:
            return code
        return replace(code, values=code.values * (code.values > floor[code.indices]))

    def above(
        self,
        x: Float[Tensor, "*token d_in"],
        encoder_rows: Float[Tensor, "d_sae d_in"],
        b_enc: Float[Tensor, "d_sae"],
        floor: Float[Tensor, "d_sae"],
        centre: Float[Tensor, "d_in"] | None = None,
        selection: torch.dtype | None = None,
    ) -> RaggedCode:
        """Every pre-activation above its floor, as `selection` sees it, whatever its sign; latents ascend."""
        flat = _centred(x, centre)
        fixed = flat.detach(), encoder_rows.detach(), b_enc.detach(), floor.detach().contiguous()
        pairs = selected.above(self.loops, *fixed, selection or precision(x))
        check_overflow(pairs.values, x)
        return self._ragged(pairs, flat, encoder_rows, b_enc, centre, x.shape[:-1])

    def above_and_between(
        self,
        x: Float[Tensor, "*token d_in"],
        encoder_rows: Float[Tensor, "d_sae d_in"],
        b_enc: Float[Tensor, "d_sae"],
        floor: Float[Tensor, "d_sae"],
        threshold: Float[Tensor, "d_sae"],
        centre: Float[Tensor, "d_in"] | None = None,
        selection: torch.dtype | None = None,
    ) -> tuple[RaggedCode, Bool[Tensor, "token d_sae"]]:
        """As `above` the threshold; and which pre-activations lie above the floor, but not above the threshold."""
        flat = _centred(x, centre)
        fixed = flat.detach(), encoder_rows.detach(), b_enc.detach(), floor.detach(), threshold.detach().contiguous()
        pairs, marks = selected.above_and_between(self.loops, *fixed, selection or precision(x))
        check_overflow(pairs.values, x)
        return self._ragged(pairs, flat, encoder_rows, b_enc, centre, x.shape[:-1]), marks

    def marked_sums(
        self,
        left: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        marks: Bool[Tensor, "token d_sae"],
    ) -> Float[Tensor, "d_sae"]:
        """Σ over the marked tokens of each latent of left[token] · rows[latent]; without gradient."""
        return selected.marked_sums(self.loops, left.detach(), rows.detach(), marks)

    def sparsify(self, values: Float[Tensor, "*token d_sae"]) -> RaggedCode:
        """The positive entries of a dense code."""
        d_sae = values.shape[-1]
        flat = values.reshape(values.shape[:-1].numel(), d_sae)
        nothing = flat.new_zeros(d_sae)
        # A loop overwrites what it reads only to add a bias, and here there is none.
        pairs = self.loops.above(flat.detach(), nothing, nothing)
        tokens = torch.arange(len(flat), device=flat.device).repeat_interleave(
            pairs.starts.diff(), output_size=len(pairs.values)
        )
        held = flat.reshape(-1).gather(0, tokens * d_sae + pairs.indices)
        return RaggedCode(held, pairs.indices, pairs.starts, tuple(values.shape[:-1]), d_sae)

    def sparse_decode(self, code: Code, W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "*token d_out"]:
        """Σ_f z_f W_dec[f] for each token, without bias."""
        match code:
            case DenseCode(values=values):
                return values @ W_dec
            case FixedCode(values=values, indices=indices):
                starts = even_bounds(values.numel(), values.shape[-1], values.device)
                return self._decoded(Pairs(values.reshape(-1), indices.reshape(-1), starts), W_dec, values.shape[:-1])
            case RaggedCode(values=values, indices=indices, starts=starts, shape=shape):
                return self._decoded(Pairs(values, indices, starts), W_dec, shape)
            case _:
                assert_never(code)

    def descend(self, slots: Sequence[Slot], how: AdamStep) -> Float[Tensor, ""]:
        """One step of Adam on all slots, in place, gradients included; returns their norm before clipping.

        1. Slots of unit rows lose the part of the gradient along the row. 2. Gradients are clipped to a total norm.
        3. Adam. 4. Unit rows are scaled back to unit norm. Where the norm is not finite, nothing moves.
        """
        squares = [self.loops.squares(s.gradient, s.parameter if s.unit else None).sum() for s in slots]
        norm = torch.stack(squares).sum().sqrt()
        # No number where the norm is none, or infinite: the host does not have to look.
        scale = (how.clip / (norm + 1e-6)).clamp_max(1.0) + 0 * norm
        for slot in slots:
            self.loops.adam(slot, scale, how)
        return norm

    def _read_in(self, tensor: Tensor) -> torch.dtype:
        """The precision in which rows are read for single pairs: autocast's, if these loops gain by that."""
        return precision(tensor) if self.loops.takes_narrow_rows else tensor.dtype

    def _ragged(
        self, pairs: Pairs, x: Tensor, rows: Tensor, bias: Tensor, centre: Tensor | None, shape: Sequence[int]
    ) -> RaggedCode:
        values = Attach.apply(self.loops, pairs, x, rows, bias, centre, self._read_in(x))
        assert isinstance(values, Tensor)
        return RaggedCode(values, pairs.indices, pairs.starts, tuple(shape), len(rows))

    def _decoded(self, pairs: Pairs, W_dec: Tensor, shape: Sequence[int]) -> Tensor:
        check_pairs(*pairs, len(W_dec))
        y = Decode.apply(self.loops, *pairs, W_dec, self._read_in(W_dec))
        assert isinstance(y, Tensor)
        check_overflow(y, pairs.values, W_dec)
        return y if len(shape) == 1 else y.view(*shape, W_dec.shape[-1])


def precision(x: Tensor) -> torch.dtype:
    """Of products: what autocast asks for, else x's own; bfloat16 for its float16, which would overflow unseen."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return x.dtype
    asked = torch.get_autocast_dtype(kind)
    return torch.bfloat16 if asked == torch.float16 != x.dtype else asked


def _centred(x: Tensor, centre: Tensor | None) -> Tensor:
    """x as a matrix, less the centre, whose gradient `Attach` finds by a shorter way."""
    flat = x.reshape(-1, x.shape[-1])
    return flat if centre is None else flat - centre.detach()
