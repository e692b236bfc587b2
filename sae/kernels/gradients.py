"""What autograd knows of the sparse path: two functions of (token, latent) pairs, over any loops.

    h_p = (x[t_p] − c) · W_enc[f_p] + b[f_p]        y[t] = Σ over the pairs of t of z_p W_dec[f_p]

A value's gradient is one dot product with a decoder row; a latent's parameters get a weighted sum of its tokens; the
centre c gets −Σ_f (Σ_t ∂h) W_enc[f], one product of a vector with a matrix instead of a sum for every token.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sae.kernels.loops import Loops, Pairs
from sae.kernels.selection import dots


class Attach(torch.autograd.Function):
    """Gives pre-activations that were selected the gradient of the linear map. `x` is centred already."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        loops: Loops,
        pairs: Pairs,
        x: Tensor,
        rows: Tensor,
        bias: Tensor,
        centre: Tensor | None,
        read_in: torch.dtype,
    ) -> Tensor:
        ctx.loops, ctx.read_in = loops, read_in
        ctx.save_for_backward(x, rows, pairs.indices, pairs.starts)
        return pairs.values.view_as(pairs.values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, rows, indices, starts = ctx.saved_tensors
        _, _, wants_x, *wants_parameters = ctx.needs_input_grad
        grad_x = ctx.loops.bag(indices, starts, rows, grad) if wants_x else None
        if not any(wants_parameters):
            return None, None, grad_x, None, None, None, None
        sums = ctx.loops.by_latent(Pairs(grad, indices, starts), x.to(ctx.read_in), len(rows))
        grad_centre = -(sums.totals @ rows) if ctx.needs_input_grad[5] else None
        return None, None, grad_x, sums.rows, sums.totals, grad_centre, None


class Decode(torch.autograd.Function):
    """A weighted sum of decoder rows for every token."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        loops: Loops,
        values: Tensor,
        indices: Tensor,
        starts: Tensor,
        W_dec: Tensor,
        read_in: torch.dtype,
    ) -> Tensor:
        ctx.loops, rows = loops, W_dec.to(read_in)
        ctx.save_for_backward(values, indices, starts, rows)
        return loops.bag(indices, starts, rows, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        values, indices, starts, rows = ctx.saved_tensors
        grad = grad.contiguous().to(rows.dtype)
        grad_values = dots(ctx.loops, grad, rows, indices, starts) if ctx.needs_input_grad[1] else None
        grad_W = None
        if ctx.needs_input_grad[4]:
            grad_W = ctx.loops.by_latent(Pairs(values, indices, starts), grad, len(rows)).rows
        return None, grad_values, None, None, grad_W, None
