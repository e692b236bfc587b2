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
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, assert_never

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from sae.kernels.code import Code, DenseCode, FixedCode, RaggedCode

# 32 MB of float32: large enough for the product's full rate (within 5 % of one block at d 512, F 8192).
_BLOCK_ELEMENTS = 2**23

# Tokens from which a batch's threshold is estimated.
_N_SAMPLED = 64

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
    flat, shape = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], k)
    found = _largest(flat.detach(), encoder_rows.detach(), b_enc.detach(), k)
    values = _Attach.apply(found.values, flat, encoder_rows, b_enc, found.indices, found.starts)
    return FixedCode(values.view(shape), found.indices.view(shape), len(encoder_rows))  # type: ignore[union-attr]


def encode_batchtopk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
) -> RaggedCode:
    """The k · n_tokens largest pre-activations of the whole batch, of those that are positive; latents ascend.

    Where pre-activations are equal the earlier token and the lower latent win.
    """
    flat = x.reshape(-1, x.shape[-1])
    found = _largest_of_batch(flat.detach(), encoder_rows.detach(), b_enc.detach(), k * len(flat))
    return _ragged(found, x, encoder_rows, b_enc)


def encode_threshold(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    threshold: Float[Tensor, "d_sae"] | Float[Tensor, ""] | float,
) -> RaggedCode:
    """Every pre-activation above max(threshold, 0); no gradient for the threshold."""
    flat = x.reshape(-1, x.shape[-1])
    floor = torch.as_tensor(threshold, dtype=x.dtype, device=x.device).detach().clamp_min(0)
    return _ragged(_above(flat.detach(), encoder_rows.detach(), b_enc.detach(), floor), x, encoder_rows, b_enc)


def sparsify(values: Float[Tensor, "*token d_sae"]) -> RaggedCode:
    """The positive entries of a dense code."""
    d_sae = values.shape[-1]
    flat = values.reshape(-1)
    places = (flat.detach() > 0).nonzero().flatten()
    counts = torch.bincount(places // d_sae, minlength=flat.numel() // d_sae)
    return RaggedCode(flat.gather(0, places), places % d_sae, _bounds(counts), tuple(values.shape[:-1]), d_sae)


def sparse_decode(code: Code, W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "*token d_out"]:
    """Σ_f z_f W_dec[f] for each token, without bias."""
    match code:
        case DenseCode(values=values):
            return values @ W_dec
        case FixedCode(values=values, indices=indices):
            starts = _even_bounds(values.numel(), values.shape[-1], values.device)
            return _decoded(values.reshape(-1), indices.reshape(-1), starts, W_dec, values.shape[:-1])
        case RaggedCode(values=values, indices=indices, starts=starts, shape=shape):
            return _decoded(values, indices, starts, W_dec, shape)
        case _:
            assert_never(code)


class _Pairs(NamedTuple):
    """(token, latent) pairs in the order of tokens, with a value each."""

    values: Float[Tensor, "pair"]
    indices: Int64[Tensor, "pair"]
    starts: Int64[Tensor, "bound"]


def _ragged(found: _Pairs, x: Tensor, rows: Tensor, bias: Tensor) -> RaggedCode:
    values = _Attach.apply(found.values, x.reshape(-1, x.shape[-1]), rows, bias, found.indices, found.starts)
    assert isinstance(values, Tensor)
    return RaggedCode(values, found.indices, found.starts, tuple(x.shape[:-1]), len(rows))


def _decoded(values: Tensor, indices: Tensor, starts: Tensor, W_dec: Tensor, shape: Sequence[int]) -> Tensor:
    y = _Decode.apply(values, indices, starts, W_dec)
    assert isinstance(y, Tensor)
    return y.view(*shape, W_dec.shape[-1])


class _Attach(torch.autograd.Function):
    """Gives selected pre-activations their gradient: h = x[token] · rows[latent] + bias[latent]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, rows: Tensor, bias: Tensor, *pairs: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, rows, *pairs)
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, rows, indices, starts = ctx.saved_tensors
        _, wants_x, *wants_parameters = ctx.needs_input_grad
        grad_x = _bag(indices, starts, rows, grad) if wants_x else None
        if not any(wants_parameters):
            return None, grad_x, None, None, None, None
        grad_rows = _sum_by_latent(_by_latent(indices, starts, len(rows)), x, grad)
        grad_bias = torch.zeros_like(rows[:, 0]).index_add_(0, indices, grad)
        return None, grad_x, grad_rows, grad_bias, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, starts: Tensor, W_dec: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(values, indices, starts, W_dec)
        return _bag(indices, starts, W_dec, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        values, indices, starts, W_dec = ctx.saved_tensors
        grad_values = _dots(grad, W_dec, indices, starts) if ctx.needs_input_grad[0] else None
        grad_W = None
        if ctx.needs_input_grad[3]:
            grad_W = _sum_by_latent(_by_latent(indices, starts, len(W_dec)), grad.contiguous(), values)
        return grad_values, None, None, grad_W


def _largest(x: Tensor, rows: Tensor, bias: Tensor, k: int) -> _Pairs:
    """The k largest pre-activations of each token, in descending order."""
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    for part, block in _pre_activations(x, rows, bias):
        torch.topk(block, k, dim=-1, out=(values[part], indices[part]))
    return _Pairs(values.flatten(), indices.flatten(), _even_bounds(indices.numel(), k, x.device))


def _largest_of_batch(x: Tensor, rows: Tensor, bias: Tensor, n_wanted: int) -> _Pairs:
    """The n_wanted largest positive pre-activations of all tokens.

    1. A threshold above which about twice as many lie, from evenly spaced tokens. 2. All pairs above it. 3. Exactly
    n_wanted of those; where they are too few, again from 1 with four times the share.
    """
    share = 2 * n_wanted / max(1, len(x) * len(rows))
    sample = _pre_activations_of_sample(x, rows, bias)
    while True:
        n_above = int(share * sample.numel()) + 1
        everything = n_above >= sample.numel()
        floor = sample.new_zeros(()) if everything else sample.topk(n_above, sorted=False).values.min().clamp_min(0)
        found = _above(x, rows, bias, floor)
        if len(found.values) >= n_wanted or floor <= 0:
            return _first(found, n_wanted)
        share *= 4


def _pre_activations_of_sample(x: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
    stride = max(1, len(x) // _N_SAMPLED)
    return torch.addmm(bias, x[::stride], rows.T).flatten()


def _first(found: _Pairs, n_wanted: int) -> _Pairs:
    """The n_wanted largest pairs; of equal ones the first."""
    if len(found.values) <= n_wanted:
        return found
    least = found.values.topk(n_wanted, sorted=False).values.min() if n_wanted else found.values.max()
    kept = found.values > least
    equal = (found.values == least).nonzero().flatten()
    kept[equal[: n_wanted - int(kept.sum())]] = True
    n_before = torch.cat([found.starts.new_zeros(1), kept.cumsum(0)])
    return _Pairs(found.values[kept], found.indices[kept], n_before[found.starts])


def _above(x: Tensor, rows: Tensor, bias: Tensor, floor: Tensor) -> _Pairs:
    """Every pre-activation above a threshold."""
    values, indices = [x.new_empty(0)], [torch.empty(0, dtype=torch.int64, device=x.device)]
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device)]
    for _, block in _pre_activations(x, rows, bias):
        token, latent = (block > floor).nonzero(as_tuple=True)
        values.append(block[token, latent])
        indices.append(latent)
        counts.append(torch.bincount(token, minlength=len(block)))
    return _Pairs(torch.cat(values), torch.cat(indices), torch.cat(counts).cumsum(0))


def _pre_activations(x: Tensor, rows: Tensor, bias: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The linear map block by block of tokens; the next block overwrites the last."""
    n_block = max(1, min(len(x), _BLOCK_ELEMENTS // len(rows)))
    pre = _buffer(n_block * len(rows), x)
    for start in range(0, len(x), n_block):
        part = slice(start, min(start + n_block, len(x)))
        block = pre[: (part.stop - start) * len(rows)].view(-1, len(rows))
        yield part, torch.addmm(bias, x[part], rows.T, out=block)


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
    """The pairs of a code, grouped by latent, tokens ascending within a group."""

    pairs: Int64[Tensor, "pair"]
    """Places in the code's own order."""
    tokens: Int64[Tensor, "pair"]
    starts: Int64[Tensor, "bound"]
    """Where each latent's group begins, and the end of the last."""


def _by_latent(indices: Int64[Tensor, "pair"], starts: Int64[Tensor, "bound"], d_sae: int) -> _ByLatent:
    pairs = torch.sort(indices, stable=True).indices
    tokens = torch.searchsorted(starts, pairs, right=True) - 1
    return _ByLatent(pairs, tokens, _bounds(torch.bincount(indices, minlength=d_sae)))


def _bounds(counts: Int64[Tensor, "group"]) -> Int64[Tensor, "bound"]:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _even_bounds(n_pairs: int, k: int, device: torch.device) -> Int64[Tensor, "bound"]:
    return torch.arange(0, n_pairs + 1, k, device=device)


def _sum_by_latent(
    grouped: _ByLatent, source: Float[Tensor, "token d"], weights: Float[Tensor, "pair"]
) -> Float[Tensor, "d_sae d"]:
    """Σ over the tokens of each latent of weight · source[token]."""
    return _bag(grouped.tokens, grouped.starts, source, weights[grouped.pairs])


def _bag(
    indices: Int64[Tensor, "pair"],
    starts: Int64[Tensor, "bound"],
    rows: Float[Tensor, "row d"],
    weights: Float[Tensor, "pair"],
) -> Float[Tensor, "group d"]:
    """Σ over the pairs of each group of weight · rows[index]."""
    if not len(indices):
        return rows.new_zeros(len(starts) - 1, rows.shape[1])
    return embedding_bag(indices, rows, starts, per_sample_weights=weights, mode="sum", include_last_offset=True)


def _dots(
    left: Float[Tensor, "token d"],
    rows: Float[Tensor, "d_sae d"],
    indices: Int64[Tensor, "pair"],
    starts: Int64[Tensor, "bound"],
) -> Float[Tensor, "pair"]:
    """left[token] · rows[index] for every pair."""
    if not len(indices):
        return left.new_zeros(0)
    if left.dtype in (torch.bfloat16, torch.float16):  # which sampled_addmm does not know
        return _dots(left.float(), rows.float(), indices, starts).to(left.dtype)
    _silence_beta_notice()
    pattern = torch.sparse_csr_tensor(starts, indices, left.new_zeros(len(indices)), (len(left), len(rows)))
    return torch.sparse.sampled_addmm(pattern, left, rows.T, beta=0.0).values()


@functools.cache
def _silence_beta_notice() -> None:
    """torch says once a process that CSR tensors are in beta; it says so here, to nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.empty(0, dtype=torch.int64), torch.empty(0), (1, 1))
