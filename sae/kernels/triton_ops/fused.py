"""The encoder's product and the choice of latents as one: pre-activations never leave the chip.

1. One program takes tokens × `TILE` latents (every n_tiles-th, so that latents that fire together lie in different
tiles), and writes the `KEPT` largest of each token, 1/16 of what the product has. 2. The k largest of those are the
code, unless a tile kept only values above the k-th: it may have more. 3. Such tiles, rare where latents are spread, are
computed anew for their token, which then chooses among all of their values. A program that has nothing to mend ends at
once, so the host is never asked.

On the way −∞ is what is not there, so a latent's own −∞ is the lowest finite number, and what is no number is ∞; its
token is marked.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# (a kernel declares its constants as constexpr and is given numbers; what a reduction gives is a tuple to pyright)

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

TILE, KEPT = 128, 8
TOKENS, COLUMNS = 128, 64
"""Of a tile; of one step of its product."""
LOWEST = -3.4028234e38
AT_ONCE = 1 << 25
"""Numbers kept before more tokens are taken."""
WIDEST = 512
"""Width of activations up to which it should pay: a torch product is faster than this one, and writing pre-activations
costs as much as it up to a width of about 2 · rate / bandwidth, 370 on an H200. Not measured yet."""


@triton.jit
def _tiles(
    x, rows, bias, values, latents, unknown, n, d, d_sae, n_tiles, lowest,
    TOKENS: tl.constexpr, TILE: tl.constexpr, COLUMNS: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    tile = tl.program_id(1)
    place = tl.arange(0, TILE)
    latent = (tile + n_tiles * place).to(tl.int64)
    h = tl.zeros([TOKENS, TILE], dtype=tl.float32)
    for start in range(0, d, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = column < d
        a = tl.load(x + token[:, None] * d + column[None, :], mask=(token < n)[:, None] & inside[None, :], other=0.0)
        b = tl.load(rows + latent[None, :] * d + column[:, None], mask=(latent < d_sae)[None, :] & inside[:, None],
                    other=0.0)  # fmt: skip
        h = tl.dot(a, b, h, input_precision="ieee")
    h += tl.load(bias + latent, mask=latent < d_sae, other=0.0).to(tl.float32)[None, :]
    wrong = tl.max((h != h).to(tl.int32), axis=1)
    tl.store(unknown + token, wrong, mask=(token < n) & (wrong > 0))
    h = tl.where(h == h, tl.where(h > lowest, h, lowest), float("inf"))
    h = tl.where((latent < d_sae)[None, :], h, float("-inf"))
    for i in range(KEPT):
        best, at = tl.max(h, axis=1), tl.argmax(h, axis=1)
        to = (token * n_tiles + tile) * KEPT + i
        tl.store(values + to, best, mask=token < n)
        tl.store(latents + to, (tile + n_tiles * at).to(tl.int32), mask=token < n)
        h = tl.where(place[None, :] == at[:, None], float("-inf"), h)


@triton.jit
def _mend(
    x, rows, bias, kept, latents, missing, values, indices, d, d_sae, n_tiles, k, n_slots, lowest,
    TILE: tl.constexpr, COLUMNS: tl.constexpr, KEPT: tl.constexpr, ALL_TILES: tl.constexpr, SLOTS: tl.constexpr,
    CANDIDATES: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    tiles = tl.arange(0, ALL_TILES)
    open_tiles = tl.load(missing + token * n_tiles + tiles, mask=tiles < n_tiles, other=0) != 0
    if tl.max(open_tiles.to(tl.int32), axis=0) > 0:
        candidate = tl.arange(0, CANDIDATES)
        there = candidate < n_tiles * KEPT
        first = token * n_tiles * KEPT
        closed = tl.load(missing + token * n_tiles + candidate // KEPT, mask=there, other=1) == 0
        held = tl.load(kept + first + candidate, mask=there & closed, other=float("-inf"))
        names = tl.load(latents + first + candidate, mask=there, other=0)
        slot, place = tl.arange(0, SLOTS), tl.arange(0, TILE)
        anew = tl.full([SLOTS, TILE], float("-inf"), dtype=tl.float32)
        tile_of = tl.zeros([SLOTS], dtype=tl.int32)
        last = -1
        for s in range(n_slots):
            tile = tl.min(tl.where(open_tiles & (tiles > last), tiles, n_tiles), axis=0)
            last = tile
            latent = (tile + n_tiles * place).to(tl.int64)
            inside_tile = latent < tl.where(tile < n_tiles, d_sae, 0)
            h = tl.load(bias + latent, mask=inside_tile, other=0.0).to(tl.float32)
            for start in range(0, d, COLUMNS):
                column = start + tl.arange(0, COLUMNS)
                inside = column < d
                a = tl.load(x + token * d + column, mask=inside, other=0.0).to(tl.float32)
                b = tl.load(rows + latent[:, None] * d + column[None, :],
                            mask=inside_tile[:, None] & inside[None, :], other=0.0).to(tl.float32)  # fmt: skip
                h += tl.sum(a[None, :] * b, axis=1)
            h = tl.where(h == h, tl.where(h > lowest, h, lowest), float("inf"))
            h = tl.where(inside_tile, h, float("-inf"))
            anew = tl.where((slot == s)[:, None], h[None, :], anew)
            tile_of = tl.where(slot == s, tile, tile_of)
        for j in range(k):
            best_held, best_anew = tl.max(held, axis=0), tl.max(tl.max(anew, axis=1), axis=0)
            at = tl.argmax(held, axis=0)
            row = tl.argmax(tl.max(anew, axis=1), axis=0)
            column_of = tl.argmax(tl.max(tl.where((slot == row)[:, None], anew, float("-inf")), axis=0), axis=0)
            use_held = best_held >= best_anew
            name_held = tl.sum(tl.where(candidate == at, names, 0), axis=0)
            name_anew = tl.sum(tl.where(slot == row, tile_of, 0), axis=0) + n_tiles * column_of
            tl.store(values + token * k + j, tl.where(use_held, best_held, best_anew))
            tl.store(indices + token * k + j, tl.where(use_held, name_held, name_anew).to(tl.int64))
            held = tl.where(candidate == tl.where(use_held, at, -1), float("-inf"), held)
            taken = (slot == row)[:, None] & (place == tl.where(use_held, -1, column_of))[None, :]
            anew = tl.where(taken, float("-inf"), anew)


def takes(x: Float[Tensor, "token d"], rows: Float[Tensor, "d_sae d"], k: int) -> bool:
    """Whether it should pay, and tiles keep clearly more than what is asked for."""
    return x.shape[1] <= WIDEST and KEPT * triton.cdiv(len(rows), TILE) >= 4 * k and len(rows) >= 4 * TILE


def largest(
    x: Float[Tensor, "token d"],
    rows: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, "d_sae"],
    values: Float[Tensor, "token k"],
    indices: Int64[Tensor, "token k"],
) -> None:
    """Writes the k largest of x · rows + bias in descending order, where `takes` says so."""
    if x.device.type == "cpu":  # Triton's interpreter multiplies the bits of bfloat16
        x, rows = x.float(), rows.float()
    n_at_once = max(TOKENS, AT_ONCE // (KEPT * triton.cdiv(len(rows), TILE)))
    rows, bias = rows.contiguous(), bias.contiguous()
    for part in (slice(start, start + n_at_once) for start in range(0, len(x), n_at_once)):
        _largest(x[part].contiguous(), rows, bias, values[part], indices[part])


def _largest(x: Tensor, rows: Tensor, bias: Tensor, values: Tensor, indices: Tensor) -> None:
    (n, d), d_sae, k = x.shape, len(rows), values.shape[1]
    n_tiles = triton.cdiv(d_sae, TILE)
    kept = torch.empty(n, n_tiles * KEPT, device=x.device)
    latents = torch.empty(n, n_tiles * KEPT, dtype=torch.int32, device=x.device)
    unknown = torch.zeros(n, dtype=torch.int32, device=x.device)
    sizes = {"TOKENS": TOKENS, "TILE": TILE, "COLUMNS": COLUMNS, "KEPT": KEPT}
    given = x, rows, bias, kept, latents, unknown, n, d, d_sae, n_tiles, LOWEST
    _tiles[(triton.cdiv(n, TOKENS), n_tiles)](*given, **sizes, num_warps=8)
    best = kept.topk(k, dim=1)
    chosen = latents.gather(1, best.indices).to(torch.int64)
    missing = kept.view(n, n_tiles, KEPT)[..., -1] > best.values[:, -1:]
    most = (k - 1) // KEPT  # tiles of which all that was kept lies above the k-th
    if most:
        _mended(x, rows, bias, kept, latents, missing, best.values, chosen, most)
    best.values.masked_fill_(best.values <= LOWEST, -torch.inf)
    best.values.masked_fill_((unknown > 0)[:, None] & (best.values == torch.inf), torch.nan)
    values.copy_(best.values)
    indices.copy_(chosen)


def _mended(
    x: Tensor, rows: Tensor, bias: Tensor, kept: Float[Tensor, "token candidate"],
    latents: Int32[Tensor, "token candidate"], missing: Bool[Tensor, "token tile"], values: Tensor, indices: Tensor,
    most: int,
) -> None:  # fmt: skip
    """Chooses again, in place, where a tile may have kept too little."""
    (n, n_tiles), d_sae = missing.shape, len(rows)
    wide = {"ALL_TILES": triton.next_power_of_2(n_tiles), "SLOTS": triton.next_power_of_2(most)}
    sizes = {"TILE": TILE, "COLUMNS": COLUMNS, "KEPT": KEPT, "CANDIDATES": triton.next_power_of_2(kept.shape[1])}
    given = x, rows, bias, kept, latents, missing.to(torch.int8), values, indices
    _mend[(n,)](*given, x.shape[1], d_sae, n_tiles, values.shape[1], most, LOWEST, **wide, **sizes, num_warps=8)
