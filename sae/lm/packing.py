"""Pieces of documents to windows, windows to batches for the model.

1. Pieces are packed whole, the longest first, each into the window with the least room that still holds it (best fit
   decreasing), over a look-ahead of many windows. Windows then go in the order of their first pieces.
2. *isolated*: position ids restart at 0 with every piece. With neither a mask nor a cache, transformers reads the
   pieces' bounds from that restart and builds a block-diagonal causal mask (sliding windows included), so pieces in one
   window never see one another: the activations of a packed piece equal those of the piece alone. Padding restarts at
   every token, so nothing sees it.
3. *single*: one piece a row, padded on the right and masked, for models that do not read bounds from positions. Rows
   of similar length stand together.
4. *shared*: a piece sees what stands before it in its window, and position ids run through the window.

A batch is as long as its longest row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from pydantic import Field, model_serializer
from torch import Tensor

from sae.core.config import Strict
from sae.core.errors import InputError
from sae.lm.documents import Piece
from sae.lm.families import family_of
from sae.lm.load import Model, module_of

LOOK_AHEAD_TOKENS = 1 << 18
LOOK_AHEAD_WINDOWS = 512
Rows = Literal["isolated", "single", "shared"]
"""What stands in a row: pieces that do not see one another, one piece alone, or pieces that see those before them."""
Item = TypeVar("Item")


class Packing(Strict):
    """How pieces stand in windows."""

    window: Annotated[int, Field(ge=1)]
    """Tokens in a window."""
    rows: Rows = "isolated"
    """Whether pieces share a window, and whether they see one another."""
    prefix: tuple[int, ...] = ()
    """Token ids at the start of every window, which belong to no document."""
    suffix: tuple[int, ...] = ()
    """Token ids after the last piece of every window, which belong to no document; an encoder's."""

    @model_serializer(mode="wrap")
    def _without_empty(self, written: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # Most windows end with a piece, and their files say so by saying nothing, as they did before there were others.
        return {name: value for name, value in written(self).items() if name != "suffix" or self.suffix}

    @property
    def longest(self) -> int:
        """Tokens in the longest piece; longer documents are cut."""
        return self.window - len(self.prefix) - len(self.suffix)

    @property
    def look_ahead(self) -> int:
        """Tokens that are packed together."""
        return max(LOOK_AHEAD_TOKENS, LOOK_AHEAD_WINDOWS * self.window)


def is_encoder(model: Model) -> bool:
    """Whether tokens of the architecture see those after them."""
    return not family_of(module_of(model)).causal


def isolates(model: Model) -> bool:
    """Whether the architecture reads bounds of pieces from position ids that restart."""
    return family_of(module_of(model)).isolates


def pack(lengths: Sequence[int], window: int) -> list[list[int]]:
    """Numbers of the pieces in each window, ascending: whole pieces, best fit, the longest first.

    Deterministic; windows are ordered by their first piece. Time grows as n log n.

    Raises:
        InputError: a piece is empty or longer than the window.
    """
    windows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(window + 1)]
    rooms = 0  # bit r is set where a window has room for exactly r tokens
    for number in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        length = lengths[number]
        if not 0 < length <= window:
            raise InputError(f"piece {number} has {length} tokens; a window holds 1 to {window}")
        enough = rooms >> length
        if enough:
            room = (enough & -enough).bit_length() - 1 + length
            place = with_room[room].pop()
            rooms ^= 0 if with_room[room] else 1 << room
            windows[place].append(number)
        else:
            room, place = window, len(windows)
            windows.append([number])
        with_room[room - length].append(place)
        rooms |= 1 << (room - length)
    return sorted(sorted(members) for members in windows)


@dataclass(frozen=True, eq=False)
class Packed:
    """A batch of windows with whole pieces in them."""

    input_ids: Int[Tensor, "batch position"]
    documents: Int[Tensor, "batch position"]
    """`Document.index`; −1 on padding and on the window's prefix and suffix."""
    positions: Int[Tensor, "batch position"]
    """Position in the document, from 0; 0 where there is none."""
    position_ids: Int[Tensor, "batch position"]
    """Position as the model counts it."""
    padding: Bool[Tensor, "batch position"]
    """Where nothing stands."""
    rows: Rows = "isolated"

    @property
    def valid(self) -> Bool[Tensor, "batch position"]:
        """Where a token of a document stands."""
        return self.documents >= 0

    def inputs(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """What to call the model with.

        Isolated pieces take no mask and no cache: with either, transformers ignores the restarts.
        """
        if self.rows == "isolated":
            bounds = {"position_ids": self.position_ids.to(device)}
        else:
            bounds = {"attention_mask": (~self.padding).long().to(device)}
        return {"input_ids": self.input_ids.to(device), **bounds, "use_cache": False}

    def to(self, device: torch.device | str) -> "Packed":
        """The same batch elsewhere."""
        tensors = (self.input_ids, self.documents, self.positions, self.position_ids, self.padding)
        return Packed(*(tensor.to(device) for tensor in tensors), rows=self.rows)


def batches(pieces: Iterable[Piece], packing: Packing, batch: int) -> Iterator[Packed]:
    """Packs pieces into windows, a look-ahead at a time, and gives them in batches.

    Args:
        pieces: of one split, each of at most `packing.longest` tokens.
        packing: how they stand in windows.
        batch: windows in a batch; the last of a look-ahead may have fewer.

    Raises:
        InputError: a piece that is longer.
    """
    for together in look_ahead(pieces, packing.look_ahead):
        windows = iter(_windows(together, packing))
        while rows := list(islice(windows, batch)):
            yield _batch(rows, packing)


def look_ahead(pieces: Iterable[Piece], n_tokens: int) -> Iterator[list[Piece]]:
    """Pieces in lists of at least so many tokens, the last of what is left."""
    together: list[Piece] = []
    waiting = 0
    for piece in pieces:
        together.append(piece)
        waiting += len(piece.ids)
        if waiting >= n_tokens:
            yield together
            together, waiting = [], 0
    if together:
        yield together


def _windows(pieces: Sequence[Piece], packing: Packing) -> Iterator[list[Piece]]:
    lengths = [len(piece.ids) for piece in pieces]
    if packing.rows == "single" and max(lengths, default=0) <= packing.longest:
        order = sorted(range(len(pieces)), key=lambda n: (-lengths[n], n))
        return ([pieces[number]] for number in order)
    return ([pieces[number] for number in members] for members in pack(lengths, packing.longest))


def _batch(windows: Sequence[Sequence[Piece]], packing: Packing) -> Packed:
    prefix = np.array(packing.prefix, dtype=np.int64)
    suffix = np.array(packing.suffix, dtype=np.int64)
    longest = len(prefix) + max(sum(len(piece.ids) for piece in pieces) for pieces in windows) + len(suffix)
    shape = (len(windows), longest)
    ids, positions, position_ids = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    documents, padding = np.full(shape, -1, dtype=np.int64), np.ones(shape, dtype=bool)
    ids[:, : len(prefix)], padding[:, : len(prefix)] = prefix, False
    position_ids[:, : len(prefix)] = np.arange(len(prefix))
    for row, pieces in enumerate(windows):
        start = first = len(prefix)
        for piece in pieces:
            n = len(piece.ids)
            place = (row, slice(start, start + n))
            ids[place], documents[place], padding[place] = piece.ids, piece.document, False
            positions[place] = np.arange(piece.start, piece.start + n)
            begin = start if start == first or packing.rows == "shared" else 0
            position_ids[place] = np.arange(begin, begin + n)
            start += n
        end = (row, slice(start, start + len(suffix)))
        ids[end], padding[end] = suffix, False
        position_ids[end] = position_ids[row, start - 1] + 1 + np.arange(len(suffix))
    arrays = (ids, documents, positions, position_ids, padding)
    return Packed(*map(torch.from_numpy, arrays), rows=packing.rows)
