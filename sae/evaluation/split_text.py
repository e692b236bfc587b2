"""The documents of one split as the model reads them, with the positions that were harvested."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int

from sae.activations.reader import Activations
from sae.core.errors import InputError
from sae.core.splits import Split
from sae.evaluation.splicing import Window
from sae.lm.tokens import Document, batches

_BATCH_TOKENS = 4096
_BATCH_LOGITS = 2**25
"""Largest number of logits in a batch."""


@dataclass(frozen=True, eq=False)
class SplitText:
    """Some documents of one split.

    Pieces of one text are one unit: only whole texts are independent, so only they are resampled.
    """

    documents: list[Document]
    units: Int[np.ndarray, "document"]
    """For every document of the token stream its unit, −1 outside of this text."""
    harvested: Bool[np.ndarray, "token"]
    """For every token of the token stream whether its activation is scored."""
    starts: Int[np.ndarray, "document_plus_one"]
    window: int
    notes: tuple[str, ...]

    @property
    def n_units(self) -> int:
        """Texts that are resampled."""
        return int(self.units.max()) + 1

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents."""
        return sum(len(document.ids) for document in self.documents)

    def windows(self, n_vocab: int) -> Iterator[Window]:
        """Packed windows in batches whose logits stay within memory."""
        n_tokens = max(self.window, min(_BATCH_TOKENS, _BATCH_LOGITS // n_vocab))
        for packed in batches(self.documents, self.window, n_tokens // self.window):
            inside = packed.valid.numpy()
            documents = np.where(inside, packed.documents.numpy(), 0)
            rows = self.harvested[self.starts[documents] + packed.positions.numpy()] & inside
            units = np.where(inside, self.units[documents], -1)
            yield Window(
                packed.input_ids, packed.positions, packed.documents, torch.from_numpy(units), torch.from_numpy(rows)
            )


def split_text(activations: Activations, split: Split, max_tokens: int) -> SplitText:
    """The first documents of a split, whole, until `max_tokens` is reached.

    Raises:
        InputError: the split has no documents.
    """
    stream = activations.tokens
    documents: list[Document] = []
    n_tokens = 0
    for document in stream.documents(split):
        if documents and n_tokens + len(document.ids) > max_tokens:
            break
        documents.append(document)
        n_tokens += len(document.ids)
    if not documents:
        raise InputError(f"the {split} split of {activations.folder} has no documents: harvest more text")
    chosen = np.array([document.index for document in documents])
    units = np.full(stream.n_documents, -1, dtype=np.int64)
    units[chosen] = np.unique(stream.source[chosen], return_inverse=True)[1]
    harvested = np.zeros(stream.n_tokens, dtype=bool)
    rows = activations.documents(split)
    harvested[stream.document_start[rows] + activations.positions(split)] = True
    n_all = stream.n_documents_in(split)
    cut = f"the first {len(documents):,} of {n_all:,} documents of the {split} split, {n_tokens:,} tokens"
    notes = (cut,) if len(documents) < n_all else ()
    return SplitText(documents, units, harvested, stream.document_start, activations.window, notes)
