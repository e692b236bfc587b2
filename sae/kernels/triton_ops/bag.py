"""Weighted sums of rows over groups of pairs: decoding, and the gradients of decoder and encoder rows.

    out[g] = Σ over the pairs p of g of weight_p · rows[index_p]        total[g] = Σ weight_p

One program sums one group in the pairs' order, so that equal inputs give equal bits; no atomic additions.
"""

# pyright: reportArgumentType=false
# (a kernel declares its constants as constexpr and is given numbers)

from typing import NamedTuple

import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

WIDEST = 1024
"""Columns of a program."""


class Bagged(NamedTuple):
    """Sums over each group."""

    rows: Float[Tensor, "group d"]
    totals: Float[Tensor, "group"]
    """Of the weights alone."""


@triton.jit
def _bag(indices, starts, rows, weights, out, totals, d, WIDTH: tl.constexpr):
    group, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = part * WIDTH + tl.arange(0, WIDTH)
    inside = column < d
    pair, end = tl.load(starts + group), tl.load(starts + group + 1)
    sums = tl.zeros([WIDTH], dtype=tl.float32)
    total = tl.sum(tl.zeros([1], dtype=tl.float32), axis=0)
    while pair < end:
        weight = tl.load(weights + pair).to(tl.float32)
        row = tl.load(indices + pair)
        sums += weight * tl.load(rows + row * d + column, mask=inside, other=0.0).to(tl.float32)
        total += weight
        pair += 1
    tl.store(out + group * d + column, sums, mask=inside)
    if part == 0:
        tl.store(totals + group, total)


def bag(
    indices: Int64[Tensor, "pair"],
    starts: Int64[Tensor, "bound"],
    rows: Float[Tensor, "row d"],
    weights: Float[Tensor, "pair"],
) -> Bagged:
    """The sums of every group; `starts` bounds the groups' pairs."""
    n, d = len(starts) - 1, rows.shape[1]
    out, totals = rows.new_empty(n, d), weights.new_empty(n)
    width = min(WIDEST, triton.next_power_of_2(d))
    if n:
        given = indices.contiguous(), starts.contiguous(), rows.contiguous(), weights.contiguous()
        _bag[(n, triton.cdiv(d, width))](*given, out, totals, d, WIDTH=width)
    return Bagged(out, totals)
