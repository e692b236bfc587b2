"""The sparse path as operators of torch: what `torch.compile` and its fakes see instead of loops and pointers.

    sae::largest           the k largest of every token                values, latents [token, k]
    sae::largest_of_batch  the largest of a batch                      pairs
    sae::above             those above their floor                     pairs
    sae::decode            Σ z W_dec[f] of every token; of encoder rows, the gradient of x
    sae::dots              a value's gradient
    sae::by_latent         sums over the tokens of each latent: the gradients of parameters

x is centred, and pairs are (values, latents, starts) as in `RaggedCode`. Each chooses its loops when it runs, as a call
from eager code does, so values and gradients are the same; but under autocast on a GPU, where eager code reads rows in
bfloat16, these read them as they are.
"""

from typing import Any

import torch
from torch import Tensor

from sae.kernels import selection as selected
from sae.kernels.checks import check_overflow, check_pairs
from sae.kernels.choice import loops_for
from sae.kernels.loops import Pairs

Count = int | torch.SymInt
"""In a fake, where sizes may be symbols."""


@torch.library.custom_op("sae::largest", mutates_args=())
def largest(x: Tensor, rows: Tensor, bias: Tensor, k: int, selection: torch.dtype) -> tuple[Tensor, Tensor]:
    pairs = selected.largest_of_tokens(loops_for(x, rows, bias), x, rows, bias, k, selection)
    check_overflow(pairs.values, x)
    return pairs.values.view(len(x), k), pairs.indices.view(len(x), k)


@largest.register_fake
def _(x: Tensor, rows: Tensor, bias: Tensor, k: Count, selection: torch.dtype) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], k), x.new_empty(x.shape[0], k, dtype=torch.int64)


@torch.library.custom_op("sae::largest_of_batch", mutates_args=())
def largest_of_batch(
    x: Tensor, rows: Tensor, bias: Tensor, n_wanted: int, selection: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    found = selected.largest_of_batch(loops_for(x, rows, bias), x, rows, bias, n_wanted, selection)
    check_overflow(found.values, x)
    return found.values, found.indices, found.starts


@largest_of_batch.register_fake
def _(x: Tensor, rows: Tensor, bias: Tensor, n_wanted: Count, selection: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return _some_pairs(x)


@torch.library.custom_op("sae::above", mutates_args=())
def above(
    x: Tensor, rows: Tensor, bias: Tensor, floor: Tensor, selection: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    found = selected.above(loops_for(x, rows, bias), x, rows, bias, floor, selection)
    check_overflow(found.values, x)
    return found.values, found.indices, found.starts


@above.register_fake
def _(x: Tensor, rows: Tensor, bias: Tensor, floor: Tensor, selection: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return _some_pairs(x)


@torch.library.custom_op("sae::decode", mutates_args=())
def decode(values: Tensor, indices: Tensor, starts: Tensor, W_dec: Tensor) -> Tensor:
    check_pairs(values, indices, starts, len(W_dec))
    y = loops_for(values, W_dec).bag(indices, starts, W_dec, values)
    check_overflow(y, values, W_dec)
    return y


@decode.register_fake
def _(values: Tensor, indices: Tensor, starts: Tensor, W_dec: Tensor) -> Tensor:
    kind = torch.promote_types(values.dtype, W_dec.dtype)
    return W_dec.new_empty(starts.shape[0] - 1, W_dec.shape[1], dtype=kind)


@torch.library.custom_op("sae::dots", mutates_args=())
def dots(left: Tensor, rows: Tensor, indices: Tensor, starts: Tensor) -> Tensor:
    # Loops may give more precision than they are given; a fake knows one.
    return selected.dots(loops_for(left, rows), left.contiguous(), rows, indices, starts).to(left.dtype)


@dots.register_fake
def _(left: Tensor, rows: Tensor, indices: Tensor, starts: Tensor) -> Tensor:
    return left.new_empty(indices.shape[0])


@torch.library.custom_op("sae::by_latent", mutates_args=())
def by_latent(weights: Tensor, indices: Tensor, starts: Tensor, source: Tensor, d_sae: int) -> tuple[Tensor, Tensor]:
    sums = loops_for(weights, source).by_latent(Pairs(weights, indices, starts), source.contiguous(), d_sae)
    return sums.rows, sums.totals


@by_latent.register_fake
def _(weights: Tensor, indices: Tensor, starts: Tensor, source: Tensor, d_sae: Count) -> tuple[Tensor, Tensor]:
    kind = torch.promote_types(weights.dtype, source.dtype)
    return source.new_empty(d_sae, source.shape[1], dtype=kind), weights.new_empty(d_sae)


def _some_pairs(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n = torch.library.get_ctx().new_dynamic_size()
    bounds = x.new_empty(x.shape[0] + 1, dtype=torch.int64)
    return x.new_empty(n), x.new_empty(n, dtype=torch.int64), bounds


def _linear_backward(ctx: Any, grad: Tensor, indices: Tensor, starts: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of x, rows and bias from those of pre-activations."""
    x, rows = ctx.saved_tensors[:2]
    grad = grad.contiguous()
    grad_x = decode(grad, indices, starts, rows) if ctx.needs_input_grad[0] else None
    grad_rows, grad_bias = by_latent(grad, indices, starts, x, rows.shape[0])
    return grad_x, grad_rows, grad_bias


def _keep_fixed(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[0], inputs[1], output[1])
    ctx.mark_non_differentiable(output[1])


def _fixed_backward(ctx: Any, grad: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
    indices = ctx.saved_tensors[2]
    n, k = indices.shape
    starts = torch.arange(n + 1, device=indices.device) * k
    return *_linear_backward(ctx, grad.reshape(-1), indices.reshape(-1), starts), None, None


def _keep_pairs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[0], inputs[1], output[1], output[2])
    ctx.mark_non_differentiable(output[1], output[2])


def _pairs_backward(ctx: Any, grad: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
    return *_linear_backward(ctx, grad, *ctx.saved_tensors[2:]), None, None


def _keep_decoded(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _decode_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    values, indices, starts, W_dec = ctx.saved_tensors
    grad_values = dots(grad, W_dec, indices, starts) if ctx.needs_input_grad[0] else None
    grad_W = by_latent(values, indices, starts, grad, W_dec.shape[0])[0] if ctx.needs_input_grad[3] else None
    return grad_values, None, None, grad_W


largest.register_autograd(_fixed_backward, setup_context=_keep_fixed)
largest_of_batch.register_autograd(_pairs_backward, setup_context=_keep_pairs)
above.register_autograd(_pairs_backward, setup_context=_keep_pairs)
decode.register_autograd(_decode_backward, setup_context=_keep_decoded)
