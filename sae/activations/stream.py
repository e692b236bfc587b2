"""The full token stream, `tokens.h5`: every token of every document, into which every row points.

Documents lie one after the other in the order in which they were read; `document_start` has one entry more than there
are documents, `source` is the number of a document's text.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Int, Int32, UInt8

from sae.activations.hdf5 import DAMAGE, append, chunk_offsets, close, create_file, dataset, growing, read
from sae.core.artifact import MEND
from sae.core.errors import WorldError
from sae.core.splits import SPLITS, Split
from sae.lm.documents import Document

FILE = "tokens.h5"
_CHUNK = 1 << 16
_READ_TOKENS = 1 << 20


class StreamWriter:
    """Appends documents to a token stream, counting them, their tokens and those that stand for no text."""

    def __init__(self, folder: Path, special_ids: Sequence[int]) -> None:
        self._file = create_file(folder / FILE)
        self._ids = growing(self._file, "ids", (), np.dtype("<i4"), _CHUNK)
        self._splits = growing(self._file, "split", (), np.dtype("u1"), _CHUNK)
        self._sources = growing(self._file, "source", (), np.dtype("<i4"), _CHUNK)
        self._starts = growing(self._file, "document_start", (), np.dtype("<i8"), _CHUNK)
        append(self._starts, np.zeros(1, np.int64))
        self._file.create_dataset("special_ids", data=np.array(sorted(special_ids), "<i4"), track_times=False)
        self._special = np.array(sorted(special_ids), np.int32)
        self.n_tokens = 0
        self.n_special = 0
        self.n_documents = 0

    def append(self, documents: Sequence[Document]) -> None:
        """Adds documents in corpus order."""
        if not documents:
            return
        lengths = np.array([len(document.ids) for document in documents], np.int64)
        ids = np.concatenate([document.ids for document in documents])
        append(self._ids, ids)
        self.n_special += int(np.isin(ids, self._special).sum())
        append(self._starts, self.n_tokens + np.cumsum(lengths))
        append(self._splits, np.array([SPLITS.index(document.split) for document in documents], np.uint8))
        append(self._sources, np.array([document.source for document in documents], np.int32))
        self.n_tokens += int(lengths.sum())
        self.n_documents += len(documents)

    def close(self) -> None:
        """Raises OSError where the disk is full."""
        close(self._file)


class TokenStream:
    """The documents of an activations folder."""

    def __init__(self, folder: Path) -> None:
        """Raises WorldError where the file is missing, cut or does not fit together."""
        self.path = folder / FILE
        try:
            with h5py.File(self.path, "r") as file:
                for name in ("ids", "split", "source", "document_start"):
                    chunk_offsets(file, name)  # HDF5 gives zeros for what its index has lost
                self.document_start: Int[np.ndarray, "document_plus_one"] = read(file, "document_start")
                self.split_index: UInt8[np.ndarray, "document"] = read(file, "split")
                self.source: Int32[np.ndarray, "document"] = read(file, "source")
                self.special_ids = tuple(int(i) for i in read(file, "special_ids"))
                n_ids = dataset(file, "ids").shape[0]
        except DAMAGE as error:
            raise WorldError(f"{self.path} cannot be read ({error}); {MEND}") from None
        if len(self.document_start) != len(self.split_index) + 1 or self.document_start[-1] != n_ids:
            raise WorldError(f"{self.path} holds {n_ids} ids, its documents end at {self.document_start[-1]}")

    @property
    def n_documents(self) -> int:
        return len(self.split_index)

    @property
    def n_tokens(self) -> int:
        return int(self.document_start[-1])

    @cached_property
    def ids(self) -> Int32[np.ndarray, "token"]:
        """All token ids; four bytes a token stay in memory."""
        return self._read(0, self.n_tokens)

    def _read(self, start: int, stop: int) -> Int32[np.ndarray, "token"]:
        try:
            with h5py.File(self.path, "r") as file:
                return read(file, "ids", start, stop)
        except DAMAGE as error:
            raise WorldError(f"{self.path} cannot be read ({error}); sae verify names what is damaged") from None

    def document(self, index: int) -> Document:
        """One document."""
        start, stop = self.document_start[index : index + 2].tolist()
        return Document(index, self._read(start, stop), SPLITS[self.split_index[index]], int(self.source[index]))

    def documents(self, split: Split) -> Iterator[Document]:
        """The documents of a split in the order in which they were read, whole, excluded tokens included."""
        first = 0
        while first < self.n_documents:
            limit = self.document_start[first] + _READ_TOKENS
            last = max(first + 1, int(np.searchsorted(self.document_start, limit, "right")) - 1)
            base = self.document_start[first]
            ids = self._read(int(base), int(self.document_start[last]))
            for i in range(first, last):
                if SPLITS[self.split_index[i]] == split:
                    start, stop = (self.document_start[i : i + 2] - base).tolist()
                    yield Document(i, ids[start:stop], split, int(self.source[i]))
            first = last

    def n_documents_in(self, split: Split) -> int:
        """Documents of a split."""
        return int((self.split_index == SPLITS.index(split)).sum())

    def n_tokens_in(self, split: Split) -> int:
        """Tokens of a split."""
        return int(np.diff(self.document_start)[self.split_index == SPLITS.index(split)].sum())

    def is_special(self, ids: Int[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
        """Which ids are special tokens."""
        return np.isin(ids, self.special_ids)
