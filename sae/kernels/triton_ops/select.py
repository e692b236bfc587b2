"""Top-k over block maxima: whole rows are read once and never sorted.

1. The largest value of every block of latents (`width`). 2. At least k values reach the k-th largest of these maxima,
so the k blocks of the largest maxima hold the k largest values. 3. The k largest of what those blocks hold. 4. Those
alone are sorted. One program has one token in 2 and 3, and finds the k-th largest by counting (`keys.are_largest`).
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# (a kernel declares its constants as constexpr and is given numbers; what a sort gives is a tuple to pyright)

import math

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from sae.kernels.triton_ops.keys import LOWEST, are_largest, key_of, number_of

AT_ONCE = 4096
"""Latents of a program that looks for maxima, and numbers of one that sorts. A power of two."""
MOST = 16_384
"""Numbers that a program chooses from: blocks of a token, or what the chosen ones hold."""


@triton.jit
def _maxima(pre, bias, maxima, d_sae, n_blocks, BLOCKS: tl.constexpr, WIDTH: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    column = block[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    inside = column < d_sae
    h = tl.load(pre + token * d_sae + column, mask=inside, other=0.0).to(tl.float32)
    h += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    key = tl.where(inside, key_of(h), LOWEST)
    tl.store(maxima + token * n_blocks + block, tl.max(key, axis=1), mask=block < n_blocks)


@triton.jit
def _blocks(maxima, blocks, n_blocks, k, ALL: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, ALL)
    key = tl.load(maxima + token * n_blocks + block, mask=block < n_blocks, other=LOWEST)
    chosen = are_largest(key, k) & (block < n_blocks)
    tl.store(blocks + token * k + tl.cumsum(chosen.to(tl.int32), axis=0) - 1, block, mask=chosen)


@triton.jit
def _choose(pre, bias, blocks, values, indices, d_sae, n_chosen, k, WIDTH: tl.constexpr, ALL: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, ALL)
    there = place < n_chosen * WIDTH
    column = tl.load(blocks + token * n_chosen + place // WIDTH, mask=there, other=0) * WIDTH + place % WIDTH
    there = there & (column < d_sae)
    h = tl.load(pre + token * d_sae + column, mask=there, other=0.0).to(tl.float32)
    h += tl.load(bias + column, mask=there, other=0.0).to(tl.float32)
    chosen = are_largest(tl.where(there, key_of(h), LOWEST), k) & there
    to = token * k + tl.cumsum(chosen.to(tl.int32), axis=0) - 1
    tl.store(values + to, h, mask=chosen)
    tl.store(indices + to, column.to(tl.int64), mask=chosen)


@triton.jit
def _order(values, indices, n, k, TOKENS: tl.constexpr, ALL: tl.constexpr):
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    place = tl.arange(0, ALL)
    there = (token < n)[:, None] & (place < k)[None, :]
    at = token[:, None] * k + place[None, :]
    key = key_of(tl.load(values + at, mask=there, other=0.0).to(tl.float32))
    latent = tl.load(indices + at, mask=there, other=0)
    pair = tl.where(there, ((~key).to(tl.int64) << 32) | latent, 0x7FFFFFFFFFFFFFFF)
    pair = tl.sort(pair, dim=1)
    h = number_of(~(pair >> 32).to(tl.int32))
    tl.store(values + at, h.to(values.dtype.element_ty), mask=there)
    tl.store(indices + at, pair & 0xFFFFFFFF, mask=there)


def width(d_sae: int, k: int) -> int:
    """Latents of a block: d_sae / width maxima and k · width candidates are looked at, fewest at √(d_sae / k)."""
    return min(128, triton.next_power_of_2(max(4, math.isqrt(d_sae // (2 * k)))))


def select(
    pre: Float[Tensor, "token d_sae"],
    bias: Float[Tensor, "d_sae"],
    values: Float[Tensor, "token k"],
    indices: Int64[Tensor, "token k"],
) -> None:
    """Writes the k largest of pre + bias; of equal ones the first, in any order."""
    (n, d_sae), k = pre.shape, values.shape[1]
    if not n:
        return
    block = width(d_sae, k)
    n_blocks = triton.cdiv(d_sae, block)
    n_chosen = min(k, n_blocks)
    n_held = triton.next_power_of_2(n_chosen) * block
    if max(n_held, triton.next_power_of_2(n_blocks)) > MOST:
        best = (pre.to(torch.float32) + bias).topk(k, dim=1)
        values.copy_(best.values)
        indices.copy_(best.indices)
        return
    blocks = _chosen_blocks(pre, bias, block, k) if n_blocks > k else _all_blocks(n, n_blocks, pre.device)
    warps = 8 if n_held > AT_ONCE else 4
    _choose[(n,)](
        pre, bias, blocks, values, indices, d_sae, n_chosen, k, WIDTH=block, ALL=n_held, num_warps=warps
    )  # fmt: skip


def _chosen_blocks(pre: Tensor, bias: Tensor, block: int, k: int) -> Int32[Tensor, "token k"]:
    (n, d_sae), n_blocks = pre.shape, triton.cdiv(pre.shape[1], block)
    maxima = torch.empty(n, n_blocks, dtype=torch.int32, device=pre.device)
    at_once = AT_ONCE // block
    _maxima[(n, triton.cdiv(n_blocks, at_once))](pre, bias, maxima, d_sae, n_blocks, BLOCKS=at_once, WIDTH=block)
    blocks = torch.empty(n, k, dtype=torch.int32, device=pre.device)
    every = triton.next_power_of_2(n_blocks)
    _blocks[(n,)](maxima, blocks, n_blocks, k, ALL=every, num_warps=8 if every > AT_ONCE else 4)
    return blocks


def _all_blocks(n: int, n_blocks: int, device: torch.device) -> Int32[Tensor, "token block"]:
    return torch.arange(n_blocks, dtype=torch.int32, device=device).repeat(n, 1)


def order(values: Float[Tensor, "token k"], indices: Int64[Tensor, "token k"]) -> None:
    """Puts the pairs of each token in descending order of their values, in place; both are contiguous.

    Of equal ones the lower latent comes first; of more than `AT_ONCE` that which came first before.
    """
    n, k = values.shape
    every = triton.next_power_of_2(k)
    if every > AT_ONCE:
        ordered = values.sort(dim=1, descending=True, stable=True)
        values.copy_(ordered.values)
        indices.copy_(indices.gather(1, ordered.indices))
    elif n:
        tokens = max(1, min(16, AT_ONCE // 4 // every))
        _order[(triton.cdiv(n, tokens),)](values, indices, n, k, TOKENS=tokens, ALL=every)
