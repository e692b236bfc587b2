"""One dot product for every pair: the gradient of a code's values, and values that were chosen in less precision.

    out[p] = left[token_p] · rows[index_p]  (+ bias[index_p])

One program goes through the pairs of a token, some at a time.
"""

# pyright: reportArgumentType=false
# (a kernel declares its constants as constexpr and is given numbers)

import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

PAIRS, WIDTH = 16, 128
"""Pairs and columns that a program holds at once: of 14 the fastest on an H200, or within a tenth of it."""


@triton.jit
def _dots(
    left, rows, bias, indices, starts, out, d, BIASED: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    first, end = tl.load(starts + token), tl.load(starts + token + 1)
    while first < end:
        pair = first + tl.arange(0, PAIRS)
        row = tl.load(indices + pair, mask=pair < end, other=0)
        products = tl.zeros([PAIRS, WIDTH], dtype=tl.float32)
        for start in range(0, d, WIDTH):
            column = start + tl.arange(0, WIDTH)
            inside = column < d
            mine = tl.load(left + token * d + column, mask=inside, other=0.0).to(tl.float32)
            here = (pair < end)[:, None] & inside[None, :]
            theirs = tl.load(rows + row[:, None] * d + column[None, :], mask=here, other=0.0).to(tl.float32)
            products += mine[None, :] * theirs
        sums = tl.sum(products, axis=1)
        if BIASED:
            sums += tl.load(bias + row, mask=pair < end, other=0.0).to(tl.float32)
        tl.store(out + pair, sums, mask=pair < end)
        first += PAIRS


def dots(
    left: Float[Tensor, "token d"],
    rows: Float[Tensor, "row d"],
    indices: Int64[Tensor, "pair"],
    starts: Int64[Tensor, "bound"],
    out: Float[Tensor, "pair"],
    bias: Float[Tensor, "row"] | None = None,
) -> None:
    """Writes left[token] · rows[index] for every pair, plus the row's bias where there is one; `out` is contiguous."""
    n, d = left.shape
    if n:
        given = left.contiguous(), rows.contiguous(), left if bias is None else bias.contiguous()
        chosen = indices.contiguous(), starts.contiguous(), out
        _dots[(n,)](*given, *chosen, d, BIASED=bias is not None, PAIRS=PAIRS, WIDTH=WIDTH)
