"""The text behind a split's rows, a few windows a step: what a loss of the whole model is computed on.

Documents are shuffled once an epoch by the seed; a step takes the next few of them, cut and packed as the harvest packs
them, so that it depends on its number alone.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from sae.activations.reader import Activations
from sae.core.errors import InputError
from sae.core.random import numpy_generator
from sae.core.splits import SPLITS, Split
from sae.lm.documents import Document
from sae.lm.packing import Packed, batches


class TextBatch(NamedTuple):
    """Windows of text, and where activations were harvested."""

    packed: Packed
    harvested: Bool[Tensor, "batch position"]


class TextWindows:
    """Windows of a split's documents by step.

    Args:
        activations: whose text it is; its token ids stay in memory, four bytes a token.
        split: which documents.
        n: windows a step, at most.
        seed: of the order of documents.

    Raises:
        InputError: the split has no documents.
    """

    def __init__(self, activations: Activations, split: Split, n: int, seed: int) -> None:
        self._stream, self._packing = activations.tokens, activations.packing
        self._split: Split = split
        self._documents = np.flatnonzero(self._stream.split_index == SPLITS.index(split))
        if not len(self._documents):
            raise InputError(f"the {split} split of {activations.folder} has no documents: harvest more text")
        self._n, self._seed = n, seed
        lengths = np.diff(self._stream.document_start)[self._documents]
        self._per_step = max(1, min(len(lengths), round(n * self._packing.longest / lengths.mean())))
        self._harvested = np.zeros(self._stream.n_tokens, dtype=bool)
        rows = activations.documents(split)
        self._harvested[self._stream.document_start[rows] + activations.positions(split)] = True

    def batch(self, step: int) -> TextBatch:
        """The windows of a step."""
        per_epoch = max(1, len(self._documents) // self._per_step)
        epoch, place = divmod(step, per_epoch)
        order = numpy_generator(self._seed, "documents", epoch).permutation(self._documents)
        chosen = order[place * self._per_step : (place + 1) * self._per_step]
        pieces = [piece for i in chosen for piece in self._document(int(i)).pieces(self._packing.longest)]
        packed = next(batches(pieces, self._packing, self._n))
        inside = packed.valid.numpy()
        documents = np.where(inside, packed.documents.numpy(), 0)
        harvested = self._harvested[self._stream.document_start[documents] + packed.positions.numpy()] & inside
        return TextBatch(packed, torch.from_numpy(harvested))

    def _document(self, index: int) -> Document:
        start, stop = self._stream.document_start[index : index + 2].tolist()
        return Document(index, self._stream.ids[start:stop], self._split, int(self._stream.source[index]))
