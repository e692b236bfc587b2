"""The sparse path in plain torch: one dense product, the encoder's; everything else touches k latents a token.

1. Pre-activations are computed in blocks of rows, in one buffer that is used again and again (a fresh tensor of
   tokens × latents costs more in page faults than the product itself), and selected from at once.
2. Decoding is a weighted bag of k decoder rows (`embedding_bag`).
3. A latent's parameter gradient is a weighted bag of the tokens at which it was selected: the (token, latent) pairs
   are sorted by latent, then bagged. Every sum has a fixed order, so equal runs give equal bits.
4. A value's gradient is one dot product between the output's gradient and a decoder row (`sampled_addmm`).

Same functions as `sae.kernels.reference`.
"""

import functools
import threading
import warnings
from typing import Any, NamedTuple, assert_never

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from sae.kernels.code import Code, DenseCode, FixedCode

# 32 MB of float32: large enough for the product's full rate (within 5 % of one block at d 512, F 8192).
_BLOCK_ELEMENTS = 2**23

_scratch = threading.local()


def topk(pre: Float[Tensor, "*token d_sae"], k: int) -> FixedCode:
    """The k largest pre-activations of each token in descending order, negative ones set to zero."""
    values, indices = pre.topk(k, dim=-1)
    return FixedCode(values.relu(), indices, pre.shape[-1])


def encode_topk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
) -> FixedCode:
    """TopK of the linear map; `encoder_rows[f]` is what latent f reads."""
    code = largest(x, encoder_rows, b_enc, k)
    return FixedCode(code.values.relu(), code.indices, code.d_sae)


def largest(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
) -> FixedCode:
    """The k largest pre-activations of each token in descending order, negative ones as they are."""
    values, indices = _Largest.apply(x.reshape(-1, x.shape[-1]), encoder_rows, b_enc, k)  # type: ignore[misc]
    shape = (*x.shape[:-1], k)
    return FixedCode(values.view(shape), indices.view(shape), len(encoder_rows))


def sparse_decode(code: Code, W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "*token d_out"]:
    """Σ_f z_f W_dec[f] for each token, without bias."""
    match code:
        case DenseCode(values=values):
            return values @ W_dec
        case FixedCode(values=values, indices=indices):
            k = values.shape[-1]
            flat = _Decode.apply(values.reshape(-1, k), indices.reshape(-1, k), W_dec)
            return flat.view(*values.shape[:-1], W_dec.shape[-1])  # type: ignore[union-attr]
        case _:
            assert_never(code)


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        values, indices = _select(x, rows, bias, k)
        ctx.save_for_backward(x, rows, indices)
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, rows, indices = ctx.saved_tensors
        grad_x = _bag(indices, rows, grad) if ctx.needs_input_grad[0] else None
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return grad_x, None, None, None
        grad_rows = _sum_by_latent(_by_latent(indices, len(rows)), x, grad)
        grad_bias = torch.zeros_like(rows[:, 0]).index_add_(0, indices.flatten(), grad.flatten())
        return grad_x, grad_rows, grad_bias, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, W_dec: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(values, indices, W_dec)
        return _bag(indices, W_dec, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        values, indices, W_dec = ctx.saved_tensors
        grad_values = _dots(grad, W_dec, indices) if ctx.needs_input_grad[0] else None
        grad_W = None
        if ctx.needs_input_grad[2]:
            grad_W = _sum_by_latent(_by_latent(indices, len(W_dec)), grad.contiguous(), values)
        return grad_values, None, grad_W


def _select(x: Tensor, rows: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and indices [token, k] of the k largest pre-activations, block by block."""
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    n_block = min(len(x), max(1, _BLOCK_ELEMENTS // len(rows)))
    pre = _buffer(n_block * len(rows), x)
    for start in range(0, len(x), max(1, n_block)):
        part = slice(start, min(start + n_block, len(x)))
        block = pre[: (part.stop - start) * len(rows)].view(-1, len(rows))
        torch.addmm(bias, x[part], rows.T, out=block)
        torch.topk(block, k, dim=-1, out=(values[part], indices[part]))
    return values, indices


def _buffer(n_elements: int, like: Tensor) -> Tensor:
    """Scratch memory of this thread, kept between calls."""
    buffers = _scratch.__dict__.setdefault("buffers", {})
    key = (like.dtype, like.device)
    if key not in buffers or buffers[key].numel() < n_elements:
        # A buffer that is born in inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            buffers[key] = torch.empty(n_elements, dtype=like.dtype, device=like.device)
    return buffers[key]


class _ByLatent(NamedTuple):
    """The (token, slot) pairs of a code, grouped by latent, tokens ascending within a group."""

    pairs: Int64[Tensor, "pair"]
    """Flat position token·k + slot."""
    tokens: Int64[Tensor, "pair"]
    offsets: Int64[Tensor, "d_sae"]
    """Where each latent's group begins."""


def _by_latent(indices: Int64[Tensor, "token k"], d_sae: int) -> _ByLatent:
    flat = indices.flatten()
    pairs = torch.sort(flat, stable=True).indices
    counts = torch.bincount(flat, minlength=d_sae)
    return _ByLatent(pairs, pairs // indices.shape[1], counts.cumsum(0) - counts)


def _sum_by_latent(
    grouped: _ByLatent, source: Float[Tensor, "token d"], weights: Float[Tensor, "token k"]
) -> Float[Tensor, "d_sae d"]:
    """Σ over the tokens of each latent of weight · source[token]."""
    if not len(grouped.pairs):
        return source.new_zeros(len(grouped.offsets), source.shape[1])
    ordered = weights.flatten()[grouped.pairs]
    return embedding_bag(grouped.tokens, source, grouped.offsets, per_sample_weights=ordered, mode="sum")


def _bag(
    indices: Int64[Tensor, "token k"], rows: Float[Tensor, "d_sae d"], weights: Float[Tensor, "token k"]
) -> Float[Tensor, "token d"]:
    """Σ_j weights[:, j] · rows[indices[:, j]]."""
    if not len(indices):
        return rows.new_zeros(0, rows.shape[1])
    return embedding_bag(indices, rows, per_sample_weights=weights, mode="sum")


def _dots(
    left: Float[Tensor, "token d"], rows: Float[Tensor, "d_sae d"], indices: Int64[Tensor, "token k"]
) -> Float[Tensor, "token k"]:
    """left[token] · rows[indices[token, j]] for every stored pair."""
    if not len(indices):
        return left.new_zeros(indices.shape)
    _silence_beta_notice()
    starts = torch.arange(0, indices.numel() + 1, indices.shape[1], device=indices.device)
    size = (len(left), len(rows))
    pattern = torch.sparse_csr_tensor(starts, indices.flatten(), left.new_zeros(indices.numel()), size)
    return torch.sparse.sampled_addmm(pattern, left, rows.T, beta=0.0).values().view(indices.shape)


@functools.cache
def _silence_beta_notice() -> None:
    """torch says once a process that CSR tensors are in beta; it says so here, to nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.empty(0, dtype=torch.int64), torch.empty(0), (1, 1))
