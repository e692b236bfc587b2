"""One dot product for every pair: the gradient of a code's values.

    out[p] = left[token_p] · rows[index_p]

One program reads a token's row once and goes through its pairs.
"""

# pyright: reportArgumentType=false
# (a kernel declares its constants as constexpr and is given numbers)

import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

from sae.core.errors import InputError

WIDEST = 16_384
"""Columns that a program can hold."""


@triton.jit
def _dots(left, rows, indices, starts, out, d, WIDTH: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < d
    mine = tl.load(left + token * d + column, mask=inside, other=0.0).to(tl.float32)
    pair, end = tl.load(starts + token), tl.load(starts + token + 1)
    while pair < end:
        row = tl.load(indices + pair)
        theirs = tl.load(rows + row * d + column, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + pair, tl.sum(mine * theirs, axis=0))
        pair += 1


def dots(
    left: Float[Tensor, "token d"],
    rows: Float[Tensor, "row d"],
    indices: Int64[Tensor, "pair"],
    starts: Int64[Tensor, "bound"],
) -> Float[Tensor, "pair"]:
    """left[token] · rows[index] for every pair.

    Raises:
        InputError: rows wider than a program can hold.
    """
    if left.shape[1] > WIDEST:
        raise InputError(f"the kernel dots takes rows of at most {WIDEST} numbers, got {left.shape[1]}")
    out = left.new_empty(len(indices))
    if len(left):
        given = left.contiguous(), rows.contiguous(), indices.contiguous(), starts.contiguous()
        _dots[(len(left),)](*given, out, left.shape[1], WIDTH=triton.next_power_of_2(left.shape[1]))
    return out
