"""Which latents are selected: the linear map in blocks of tokens, each selected from while it is at hand.

Pre-activations of a block lie in one buffer that is used again and again (a fresh tensor of tokens × latents costs
more in page faults than its product saves), so nothing of that size outlives the selection.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.kernels import pool
from sae.kernels.loops import Bounds, Loops, Pairs, bounds, even_bounds
from sae.kernels.marks import places

# 16 MB of float32. Fewer than 512 tokens a block cost the product up to a third of its rate, so wide dictionaries get
# up to four times as much.
BLOCK_ELEMENTS = 2**22
BLOCK_TOKENS = 512
# A GPU's product wants some thousand tokens, else it reads the rows too often; 256 MB of bfloat16.
GPU_BLOCK_ELEMENTS = 2**27
# Tokens from which a batch's threshold is estimated.
N_SAMPLED = 64

Tokens = Float[Tensor, "token d_in"]
Rows = Float[Tensor, "d_sae d_in"]
Vector = Float[Tensor, "d_sae"]


def largest_of_tokens(
    loops: Loops,
    x: Tokens,
    rows: Rows,
    bias: Vector,
    k: int,
    selection: torch.dtype,
    read_in: torch.dtype | None = None,
) -> Pairs:
    """The k largest pre-activations of each token, in descending order.

    With a `selection` of less precision than x, latents are chosen by pre-activations of that precision, and their
    values computed anew, but where rows are `read_in` that precision in all else too.
    """
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    coarse = x.to(selection), rows.to(selection)
    for part, block in _blocks(*coarse):
        loops.select(block, bias, values[part], indices[part])
    if selection not in (x.dtype, read_in):
        loops.refine(x, rows, bias, values, indices)
    starts = even_bounds(indices.numel(), k, x.device)
    return Pairs(values.flatten(), indices.flatten(), starts)


def above(loops: Loops, x: Tokens, rows: Rows, bias: Vector, floor: Vector, selection: torch.dtype) -> Pairs:
    """Every pre-activation above its floor, or no number.

    With a `selection` of less precision than x, that precision decides which, and values are computed in x's.
    """
    return _refined(loops, x, rows, bias, _above(loops, x, rows, bias, floor, selection), selection)


def above_and_between(
    loops: Loops, x: Tokens, rows: Rows, bias: Vector, floor: Vector, threshold: Vector, selection: torch.dtype
) -> tuple[Pairs, Bool[Tensor, "token d_sae"]]:
    """As `above` the threshold, and a mark for every pre-activation between floor and threshold."""
    marks = torch.empty(len(x), len(rows), dtype=torch.bool, device=x.device)
    found = [_none(x)]
    for part, block in _blocks(x.to(selection), rows.to(selection)):
        loops.mark(block, bias, floor, threshold, marks[part])
        found.append(loops.above(block, bias, threshold))
    return _refined(loops, x, rows, bias, _joined(found), selection), marks


def marked_sums(loops: Loops, left: Tokens, rows: Rows, marks: Bool[Tensor, "token d_sae"]) -> Vector:
    """Σ over the marked tokens of each latent of left[token] · rows[latent], from whole products."""
    sums = left.new_zeros(len(rows))
    for part, block in _blocks(left, rows):
        loops.add_marked(block, marks[part], sums)
    return sums


def largest_of_batch(loops: Loops, x: Tokens, rows: Rows, bias: Vector, n_wanted: int, selection: torch.dtype) -> Pairs:
    """The n_wanted largest positive pre-activations of all tokens; of equal ones the first.

    1. A threshold above which about twice as many lie, from evenly spaced tokens. 2. All pairs above it. 3. Exactly
    n_wanted of those; where they are too few, again from 1 with four times the share. 4. With a `selection` of less
    precision, their values anew.
    """
    share = 2 * n_wanted / max(1, len(x) * len(rows))
    sample = torch.addmm(bias, x[:: max(1, len(x) // N_SAMPLED)], rows.T).flatten()
    while True:
        n_above = int(share * sample.numel()) + 1
        least = sample.topk(n_above, sorted=False).values.min() if n_above < sample.numel() else sample.new_zeros(())
        floor = torch.where(least > 0, least, 0).to(bias)
        found = _above(loops, x, rows, bias, floor.repeat(len(bias)), selection)
        if len(found.values) >= n_wanted or not floor > 0:
            return _refined(loops, x, rows, bias, _first(found, n_wanted), selection)
        share *= 4


def dots(loops: Loops, left: Tokens, rows: Rows, indices: Tensor, starts: Bounds) -> Float[Tensor, "pair"]:
    """left[token] · rows[index] for every pair: one by one, or taken from whole products where pairs are many."""
    if len(indices) <= loops.whole_share(left.dtype) * len(left) * len(rows):
        return loops.dots(left, rows, indices, starts)
    out = left.new_empty(len(indices))
    for part, block in _blocks(left, rows):
        first, last = (_bound(starts, token, len(indices)) for token in (part.start, part.stop))
        inside = starts[part.start : part.stop + 1] - first
        loops.take(block, indices[first:last], inside, out[first:last])
    return out


def _bound(starts: Bounds, token: int, n_pairs: int) -> int:
    """Where a token's pairs begin; of the first and after the last no GPU is asked."""
    if token in (0, len(starts) - 1):
        return n_pairs if token else 0
    return int(starts[token])


def _above(loops: Loops, x: Tokens, rows: Rows, bias: Vector, floor: Vector, selection: torch.dtype) -> Pairs:
    """With values as that precision has them."""
    blocks = _blocks(x.to(selection), rows.to(selection))
    return _joined([_none(x), *(loops.above(block, bias, floor) for _, block in blocks)])


def _none(x: Tokens) -> Pairs:
    """The pairs of no token."""
    return Pairs(x.new_empty(0), torch.empty(0, dtype=torch.int64, device=x.device), even_bounds(0, 1, x.device))


def _joined(found: list[Pairs]) -> Pairs:
    """The pairs of consecutive tokens as one."""
    values, indices, counts = (torch.cat(parts) for parts in zip(*(_counted(part) for part in found), strict=True))
    return Pairs(values, indices, bounds(counts))


def _counted(part: Pairs) -> Pairs:
    """With the number of each token's pairs in place of its bounds."""
    return part._replace(starts=part.starts.diff())


def _refined(loops: Loops, x: Tokens, rows: Rows, bias: Vector, pairs: Pairs, selection: torch.dtype) -> Pairs:
    if selection == x.dtype:
        return pairs
    exact = dots(loops, x, rows, pairs.indices, pairs.starts) + bias[pairs.indices]
    return pairs._replace(values=exact.to(x.dtype))


def _first(found: Pairs, n_wanted: int) -> Pairs:
    if len(found.values) <= n_wanted:
        return found
    sizes = found.values.nan_to_num(torch.inf, torch.inf, -torch.inf)  # what is no number is the largest
    least = sizes.topk(n_wanted, sorted=False).values.min()
    larger, equal = sizes > least, sizes == least
    kept = larger | (equal & (equal.cumsum(0) <= n_wanted - larger.sum()))
    n_before = torch.nn.functional.pad(kept.cumsum(0), (1, 0))
    where = places(kept, n_wanted)
    return Pairs(found.values[where], found.indices[where], n_before[found.starts])


def _blocks(x: Tokens, rows: Rows) -> Iterator[tuple[slice, Tensor]]:
    """x · rows, block by block of tokens; the next block overwrites the last."""
    fitting = max(BLOCK_ELEMENTS // len(rows), min(BLOCK_TOKENS, 4 * BLOCK_ELEMENTS // len(rows)))
    if x.is_cuda:
        fitting = GPU_BLOCK_ELEMENTS // len(rows)
    n_block = max(1, min(len(x), fitting))
    pre = pool.scratch(n_block * len(rows), x)
    for start in range(0, len(x), n_block):
        part = slice(start, min(start + n_block, len(x)))
        block = pre[: (part.stop - start) * len(rows)].view(-1, len(rows))
        yield part, torch.mm(x[part], rows.T, out=block)
