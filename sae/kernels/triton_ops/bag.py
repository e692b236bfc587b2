"""Weighted sums of rows over groups of pairs: decoding, and the gradients of decoder and encoder rows.

    out[g] = Σ over the pairs p of g of weight_p · rows[index_p]        total[g] = Σ weight_p

One program sums one group, some pairs at a time, always in the same order, so that equal inputs give equal bits; no
atomic additions. Rows may be of less precision than weights and sums.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (a kernel declares its constants as constexpr and is given numbers)

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

PAIRS, WIDTH, WARPS = 8, 256, 1
"""Pairs and columns that a program holds at once, in one warp, so that nothing passes between threads: on an H200 the
fastest of 14 for float32 rows of 768 to 4,096 numbers, and for most of bfloat16."""


class Bagged(NamedTuple):
    """Sums over each group."""

    rows: Float[Tensor, "group d"]
    totals: Float[Tensor, "group"]
    """Of the weights alone."""


@triton.jit
def _bag(indices, starts, rows, weights, out, totals, d, PAIRS: tl.constexpr, WIDTH: tl.constexpr):
    group, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = part * WIDTH + tl.arange(0, WIDTH)
    inside = column < d
    first, end = tl.load(starts + group), tl.load(starts + group + 1)
    sums = tl.zeros([WIDTH], dtype=tl.float32)
    total = tl.sum(tl.zeros([PAIRS], dtype=tl.float32), axis=0)
    while first < end:
        pair = first + tl.arange(0, PAIRS)
        weight = tl.load(weights + pair, mask=pair < end, other=0.0).to(tl.float32)
        row = tl.load(indices + pair, mask=pair < end, other=0)
        here = (pair < end)[:, None] & inside[None, :]
        block = tl.load(rows + row[:, None] * d + column[None, :], mask=here, other=0.0).to(tl.float32)
        sums += tl.sum(weight[:, None] * block, axis=0)
        total += tl.sum(weight, axis=0)
        first += PAIRS
    tl.store(out + group * d + column, sums, mask=inside)
    if part == 0:
        tl.store(totals + group, total)


def bag(
    indices: Int64[Tensor, "pair"],
    starts: Int64[Tensor, "bound"],
    rows: Float[Tensor, "row d"],
    weights: Float[Tensor, "pair"],
) -> Bagged:
    """The sums of every group, in the higher precision of weights and rows; `starts` bounds the groups' pairs."""
    n, d = len(starts) - 1, rows.shape[1]
    kind = torch.promote_types(weights.dtype, rows.dtype)
    out, totals = rows.new_empty(n, d, dtype=kind), weights.new_empty(n)
    if n:
        given = indices.contiguous(), starts.contiguous(), rows.contiguous(), weights.contiguous()
        parts = triton.cdiv(d, WIDTH)
        _bag[(n, parts)](*given, out, totals, d, PAIRS=PAIRS, WIDTH=WIDTH, num_warps=WARPS)
    return Bagged(out, totals)
