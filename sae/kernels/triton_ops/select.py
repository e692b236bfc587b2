"""Top-k over block maxima: whole rows are read once and never sorted.

1. The largest value of every block of latents (`width`). 2. At least k values reach the k-th largest of these maxima,
so the k blocks of the largest maxima hold the k largest values. 3. The top k of what those blocks hold. What is no
number counts as infinite in step 2.
"""

# pyright: reportArgumentType=false
# (a kernel declares its constants as constexpr and is given numbers)

import math

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

BLOCKS, PLACES = 32, 32
"""Blocks of latents in a program; chosen blocks in a program. Powers of two."""


@triton.jit
def _maxima(pre, bias, maxima, d_sae, n_blocks, BLOCKS: tl.constexpr, WIDTH: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    column = block[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    inside = column < d_sae
    h = tl.load(pre + token * d_sae + column, mask=inside, other=0.0).to(tl.float32)
    h += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    h = tl.where(inside, h, float("-inf"))
    h = tl.where(h == h, h, float("inf"))
    tl.store(maxima + token * n_blocks + block, tl.max(h, axis=1), mask=block < n_blocks)


@triton.jit
def _candidates(pre, bias, blocks, values, d_sae, k, PLACES: tl.constexpr, WIDTH: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * PLACES + tl.arange(0, PLACES)
    block = tl.load(blocks + token * k + place, mask=place < k, other=0)
    within = tl.arange(0, WIDTH)[None, :]
    column = block[:, None] * WIDTH + within
    inside = column < d_sae
    h = tl.load(pre + token * d_sae + column, mask=inside, other=0.0).to(tl.float32)
    h += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    h = tl.where(inside, h, float("-inf"))
    tl.store(values + (token * k + place)[:, None] * WIDTH + within, h, mask=(place < k)[:, None])


def width(d_sae: int, k: int) -> int:
    """Latents of a block: d_sae / width maxima and k · width candidates are sorted, fewest at √(d_sae / k)."""
    return min(128, triton.next_power_of_2(max(4, math.isqrt(d_sae // (2 * k)))))


def select(
    pre: Float[Tensor, "token d_sae"],
    bias: Float[Tensor, "d_sae"],
    values: Float[Tensor, "token k"],
    indices: Int64[Tensor, "token k"],
) -> None:
    """Writes the k largest of pre + bias in descending order."""
    (n, d_sae), k = pre.shape, values.shape[1]
    block = width(d_sae, k)
    n_blocks = triton.cdiv(d_sae, block)
    if n_blocks <= k or not n:
        best = (pre.to(torch.float32) + bias).topk(k, dim=1)
        values.copy_(best.values)
        indices.copy_(best.indices)
        return
    maxima = torch.empty(n, n_blocks, device=pre.device)
    _maxima[(n, triton.cdiv(n_blocks, BLOCKS))](pre, bias, maxima, d_sae, n_blocks, BLOCKS=BLOCKS, WIDTH=block)
    chosen = maxima.topk(k, dim=1, sorted=False).indices
    candidates = torch.empty(n, k * block, device=pre.device)
    _candidates[(n, triton.cdiv(k, PLACES))](pre, bias, chosen, candidates, d_sae, k, PLACES=PLACES, WIDTH=block)
    best = candidates.topk(k, dim=1)
    values.copy_(best.values)
    indices.copy_(chosen.gather(1, best.indices // block) * block + best.indices % block)
