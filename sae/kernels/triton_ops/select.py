"""Top-k over block maxima: whole rows are read once and never sorted.

1. The largest value of every block of `BLOCK` latents. 2. At least k values reach the k-th largest of these maxima, so
the k blocks of the largest maxima hold the k largest values. 3. The top k of what those blocks hold, k · `BLOCK` values
instead of d_sae. What is no number counts as infinite in step 2.
"""

# pyright: reportArgumentType=false
# (a kernel declares its constants as constexpr and is given numbers)

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

BLOCK = 64
"""Latents; a power of two."""


@triton.jit
def _maxima(pre, bias, maxima, d_sae, n_blocks, WIDTH: tl.constexpr):
    token, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = block * WIDTH + tl.arange(0, WIDTH)
    inside = column < d_sae
    h = tl.load(pre + token * d_sae + column, mask=inside, other=0.0).to(tl.float32)
    h += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    h = tl.where(inside, h, float("-inf"))
    h = tl.where(h == h, h, float("inf"))
    tl.store(maxima + token * n_blocks + block, tl.max(h, axis=0))


@triton.jit
def _candidates(pre, bias, blocks, values, d_sae, k, WIDTH: tl.constexpr):
    token, place = tl.program_id(0).to(tl.int64), tl.program_id(1)
    block = tl.load(blocks + token * k + place)
    column = block * WIDTH + tl.arange(0, WIDTH)
    inside = column < d_sae
    h = tl.load(pre + token * d_sae + column, mask=inside, other=0.0).to(tl.float32)
    h += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    h = tl.where(inside, h, float("-inf"))
    tl.store(values + (token * k + place) * WIDTH + tl.arange(0, WIDTH), h)


def select(
    pre: Float[Tensor, "token d_sae"],
    bias: Float[Tensor, "d_sae"],
    values: Float[Tensor, "token k"],
    indices: Int64[Tensor, "token k"],
) -> None:
    """Writes the k largest of pre + bias in descending order."""
    (n, d_sae), k = pre.shape, values.shape[1]
    n_blocks = triton.cdiv(d_sae, BLOCK)
    if n_blocks <= k or not n:
        best = (pre.to(torch.float32) + bias).topk(k, dim=1)
        values.copy_(best.values)
        indices.copy_(best.indices)
        return
    maxima = torch.empty(n, n_blocks, device=pre.device)
    _maxima[(n, n_blocks)](pre, bias, maxima, d_sae, n_blocks, WIDTH=BLOCK)
    blocks = maxima.topk(k, dim=1, sorted=False).indices
    candidates = torch.empty(n, k * BLOCK, device=pre.device)
    _candidates[(n, k)](pre, bias, blocks, candidates, d_sae, k, WIDTH=BLOCK)
    best = candidates.topk(k, dim=1)
    values.copy_(best.values)
    indices.copy_(blocks.gather(1, best.indices // BLOCK) * BLOCK + best.indices % BLOCK)
