"""The documents of one split as the model reads them, with the positions that were harvested."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int

from sae.activations.reader import Activations
from sae.activations.stream import TokenStream
from sae.core.errors import InputError
from sae.core.splits import Split
from sae.evaluation.splicing import Window
from sae.lm.documents import Piece
from sae.lm.packing import Packing, batches

_BATCH_TOKENS = 4096
_BATCH_LOGITS = 2**25
"""Largest number of logits in a batch."""


@dataclass(frozen=True, eq=False)
class SplitText:
    """Some documents of one split, in the pieces that the model reads.

    A text is one unit, whatever its pieces: only whole texts are independent, so only they are resampled.
    """

    pieces: list[Piece]
    units: Int[np.ndarray, "document"]
    """For every document of the token stream its unit, −1 outside of this text."""
    harvested: Bool[np.ndarray, "token"]
    """For every token of the token stream whether its activation is scored."""
    starts: Int[np.ndarray, "document_plus_one"]
    packing: Packing
    notes: tuple[str, ...]

    @property
    def n_units(self) -> int:
        """Texts that are resampled."""
        return int(self.units.max()) + 1

    @property
    def n_tokens(self) -> int:
        """Tokens of all pieces."""
        return sum(len(piece.ids) for piece in self.pieces)

    def windows(self, n_vocab: int) -> Iterator[Window]:
        """Packed windows in batches whose logits stay within memory."""
        window = self.packing.window
        n_tokens = max(window, min(_BATCH_TOKENS, _BATCH_LOGITS // n_vocab))
        for packed in batches(self.pieces, self.packing, n_tokens // window):
            inside = packed.valid.numpy()
            documents = np.where(inside, packed.documents.numpy(), 0)
            rows = self.harvested[self.starts[documents] + packed.positions.numpy()] & inside
            units = np.where(inside, self.units[documents], -1)
            yield Window(packed, torch.from_numpy(units), torch.from_numpy(rows))


def split_text(activations: Activations, split: Split, max_tokens: int) -> SplitText:
    """The first documents of a split, in whole pieces, until `max_tokens` is reached.

    Raises:
        InputError: the split has no documents.
    """
    stream, packing = activations.tokens, activations.packing
    pieces, n_tokens = _first_pieces(stream, split, packing.longest, max_tokens)
    if not pieces:
        raise InputError(f"the {split} split of {activations.folder} has no documents: harvest more text")
    chosen = np.unique([piece.document for piece in pieces])
    units = np.full(stream.n_documents, -1, dtype=np.int64)
    units[chosen] = np.unique(stream.source[chosen], return_inverse=True)[1]
    harvested = np.zeros(stream.n_tokens, dtype=bool)
    rows = activations.documents(split)
    harvested[stream.document_start[rows] + activations.positions(split)] = True
    n_all, whole = stream.n_documents_in(split), stream.n_tokens_in(split)
    cut = f"the first {len(chosen):,} of {n_all:,} documents of the {split} split, {n_tokens:,} of {whole:,} tokens"
    notes = (cut,) if n_tokens < whole else ()
    return SplitText(pieces, units, harvested, stream.document_start, packing, notes)


def _first_pieces(stream: TokenStream, split: Split, longest: int, max_tokens: int) -> tuple[list[Piece], int]:
    """Pieces until the next would exceed `max_tokens`, at least one; and their tokens."""
    pieces: list[Piece] = []
    n_tokens = 0
    for document in stream.documents(split):
        for piece in document.pieces(longest):
            if pieces and n_tokens + len(piece.ids) > max_tokens:
                return pieces, n_tokens
            pieces.append(piece)
            n_tokens += len(piece.ids)
    return pieces, n_tokens
