"""Which latents are selected: the linear map in blocks of tokens, each selected from while it is at hand.

Pre-activations of a block lie in one buffer that is used again and again (a fresh tensor of tokens × latents costs
more in page faults than its product saves), so nothing of that size outlives the selection.
"""

import threading
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from sae.kernels.loops import Loops, Pairs, even_bounds

# 32 MB of float32. Fewer than 512 tokens a block cost the product up to a third of its rate, so wide dictionaries get
# up to twice as much.
BLOCK_ELEMENTS = 2**23
BLOCK_TOKENS = 512
# Tokens from which a batch's threshold is estimated.
N_SAMPLED = 64

_scratch = threading.local()

Tokens = Float[Tensor, "token d_in"]
Rows = Float[Tensor, "d_sae d_in"]
Vector = Float[Tensor, "d_sae"]


def largest_of_tokens(loops: Loops, x: Tokens, rows: Rows, bias: Vector, k: int, selection: torch.dtype) -> Pairs:
    """The k largest pre-activations of each token, in descending order.

    With a `selection` of less precision than x, latents are chosen by pre-activations of that precision and their
    values computed anew in the precision of x.
    """
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    for part, block in _blocks(x.to(selection), rows.to(selection)):
        loops.select(block, bias, values[part], indices[part])
    if selection != x.dtype:
        loops.refine(x, rows, bias, values, indices)
    starts = even_bounds(indices.numel(), k, x.device)
    return Pairs(values.flatten(), indices.flatten(), starts)


def above(loops: Loops, x: Tokens, rows: Rows, bias: Vector, floor: Vector) -> Pairs:
    """Every pre-activation above its floor."""
    found = [Pairs(x.new_empty(0), torch.empty(0, dtype=torch.int64, device=x.device), even_bounds(0, 1, x.device))]
    found += [loops.above(block, bias, floor) for _, block in _blocks(x, rows)]
    counts = torch.cat([part.starts.diff() for part in found])
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Pairs(torch.cat([part.values for part in found]), torch.cat([part.indices for part in found]), starts)


def largest_of_batch(loops: Loops, x: Tokens, rows: Rows, bias: Vector, n_wanted: int) -> Pairs:
    """The n_wanted largest positive pre-activations of all tokens; of equal ones the first.

    1. A threshold above which about twice as many lie, from evenly spaced tokens. 2. All pairs above it. 3. Exactly
    n_wanted of those; where they are too few, again from 1 with four times the share.
    """
    share = 2 * n_wanted / max(1, len(x) * len(rows))
    sample = torch.addmm(bias, x[:: max(1, len(x) // N_SAMPLED)], rows.T).flatten()
    while True:
        n_above = int(share * sample.numel()) + 1
        least = float(sample.topk(n_above, sorted=False).values.min()) if n_above < sample.numel() else 0.0
        found = above(loops, x, rows, bias, torch.full_like(bias, max(0.0, least)))
        if len(found.values) >= n_wanted or least <= 0:
            return _first(found, n_wanted)
        share *= 4


def _first(found: Pairs, n_wanted: int) -> Pairs:
    if len(found.values) <= n_wanted:
        return found
    least = found.values.topk(n_wanted, sorted=False).values.min()
    kept = found.values > least
    equal = (found.values == least).nonzero().flatten()
    kept[equal[: n_wanted - int(kept.sum())]] = True
    n_before = torch.cat([found.starts.new_zeros(1), kept.cumsum(0)])
    return Pairs(found.values[kept], found.indices[kept], n_before[found.starts])


def _blocks(x: Tokens, rows: Rows) -> Iterator[tuple[slice, Tensor]]:
    """x · rows, block by block of tokens; the next block overwrites the last."""
    fitting = max(BLOCK_ELEMENTS // len(rows), min(BLOCK_TOKENS, 2 * BLOCK_ELEMENTS // len(rows)))
    n_block = max(1, min(len(x), fitting))
    pre = _buffer(n_block * len(rows), x)
    for start in range(0, len(x), n_block):
        part = slice(start, min(start + n_block, len(x)))
        block = pre[: (part.stop - start) * len(rows)].view(-1, len(rows))
        yield part, torch.mm(x[part], rows.T, out=block)


def _buffer(n_elements: int, like: Tensor) -> Tensor:
    """Scratch memory of this thread, kept between calls."""
    buffers = _scratch.__dict__.setdefault("buffers", {})
    key = (like.dtype, like.device)
    if key not in buffers or buffers[key].numel() < n_elements:
        # A buffer that is born in inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            buffers[key] = torch.empty(n_elements, dtype=like.dtype, device=like.device)
    return buffers[key]
