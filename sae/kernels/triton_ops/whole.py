"""The same sums by whole products: where a code's pairs are many, a GPU multiplies by its zeros sooner than it gathers.

Pairs are laid out as a dense code, in the precision of the rows, some tokens at a time. Every pair is looked at for
every block of tokens, so that the host need not know where a block's pairs begin.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.kernels import pool
from sae.kernels.loops import ByLatent, Pairs

AT_ONCE = 2**27
"""Numbers of a dense code."""


class _Block(NamedTuple):
    tokens: slice
    code: Float[Tensor, "token row"]


def bag(pairs: Pairs, rows: Float[Tensor, "row d"]) -> Float[Tensor, "token d"]:
    """Σ over the pairs of each token of weight · rows[index]; as a tensor of the higher precision of both."""
    kind = torch.promote_types(pairs.values.dtype, rows.dtype)
    out = rows.new_empty(len(pairs.starts) - 1, rows.shape[1], dtype=kind)
    for tokens, code in _blocks(pairs, len(rows), rows.dtype):
        with torch.autocast(rows.device.type, enabled=False):  # in the precision of the rows
            out[tokens] = code @ rows
    return out


def by_latent(pairs: Pairs, source: Float[Tensor, "token d"], d_sae: int) -> ByLatent:
    """Sums over the tokens of each latent of weight · source[token], and of the weights."""
    kind = torch.promote_types(pairs.values.dtype, source.dtype)
    rows, totals = source.new_zeros(d_sae, source.shape[1], dtype=kind), pairs.values.new_zeros(d_sae)
    for tokens, code in _blocks(pairs, d_sae, source.dtype):
        with torch.autocast(source.device.type, enabled=False):
            rows += code.T @ source[tokens]
        totals += code.sum(0, dtype=totals.dtype)
    return ByLatent(rows, totals)


def _blocks(pairs: Pairs, n_rows: int, kind: torch.dtype) -> Iterator[_Block]:
    n, device = len(pairs.starts) - 1, pairs.values.device
    n_block = max(1, min(n, AT_ONCE // n_rows))
    at, values = _tokens(pairs) * n_rows + pairs.indices, pairs.values.to(kind)
    memory = pool.scratch(n_block * n_rows, torch.empty(0, dtype=kind, device=device))
    for start in range(0, n, n_block):
        end = min(n, start + n_block)
        block = memory[: (end - start) * n_rows].zero_()
        here, given = at - start * n_rows, values
        if end - start < n:  # nothing is added for what belongs to other tokens, all over the block
            given = values.where((here >= 0) & (here < len(block)), 0)
            here = here.remainder(len(block))
        block.scatter_add_(0, here, given)  # a latent that a code names twice counts twice
        yield _Block(slice(start, end), block.view(end - start, n_rows))


def _tokens(pairs: Pairs) -> Int64[Tensor, "pair"]:
    """The token of each pair."""
    tokens = torch.arange(len(pairs.starts) - 1, device=pairs.values.device)
    return tokens.repeat_interleave(pairs.starts.diff(), output_size=len(pairs.values))
