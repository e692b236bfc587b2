"""Several sites side by side: what a transcoder reads and writes, what a crosscoder reads of one model or two.

A row is a token at a place in its document, so that rows of equal number belong together. Two harvests go together
where their token streams are equal and they kept the same rows.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor

from sae.activations.reader import Activations, Block
from sae.activations.shuffle import ALONE, Reader, ShuffledBatches
from sae.core.errors import InputError
from sae.core.splits import SPLITS, Split


class Column(NamedTuple):
    """A site of a harvest."""

    activations: Activations
    site: str

    @property
    def d(self) -> int:
        return self.activations.d(self.site)


class Columns:
    """Rows of several sites, one after the other.

    Args:
        columns: at least one.

    Raises:
        InputError: a site is not there, or two harvests hold other rows.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        assert columns
        self.columns = tuple(columns)
        self.first = columns[0].activations
        self.widths = tuple(column.d for column in columns)
        for column in columns[1:]:
            if column.activations is not self.first:
                _check_equal_rows(self.first, column.activations)

    @property
    def d(self) -> int:
        """Width of a row."""
        return sum(self.widths)

    def n_rows(self, split: Split) -> int:
        """Rows of a split."""
        return self.first.n_rows(split)

    def sample(self, split: Split, n: int) -> Float32[Tensor, "row d"]:
        """At most `n` rows, evenly spread over the split; the same ones every time."""
        return torch.cat([column.activations.sample(split, column.site, n) for column in self.columns], dim=1)

    def rows(self, split: Split, start: int = 0, stop: int | None = None) -> Float32[Tensor, "row d"]:
        """Rows [start, stop) of a split."""
        return torch.cat([c.activations.rows(split, c.site, start, stop) for c in self.columns], dim=1)

    def blocks(self, split: Split, n: int = 8192) -> Iterator[Block]:
        """All rows of a split in order, at most `n` at a time."""
        for start in range(0, self.n_rows(split), n):
            documents, positions = (f(split, start, start + n) for f in (self.first.documents, self.first.positions))
            yield Block(self.rows(split, start, start + n), documents, positions)


def sites_of(activations: Activations, sites: Sequence[str]) -> Columns:
    """Sites of one harvest side by side."""
    return Columns([Column(activations, site) for site in sites])


class ColumnBatches:
    """Shuffled batches of rows of several sites; as `ShuffledBatches`, in the same order as any one of them."""

    def __init__(
        self, columns: Columns, split: Split = "train", batch: int = 4096, seed: int = 0, reader: Reader = ALONE
    ) -> None:
        """Takes the memory of a buffer for every site.

        Raises:
            InputError: the split has no rows.
        """
        self._batches = [
            ShuffledBatches(c.activations, c.site, split, batch, seed, reader=reader) for c in columns.columns
        ]
        self.n_rows, self.n_per_batch = self._batches[0].n_rows, batch
        self.n_in_share = self._batches[0].n_in_share
        """Rows of every batch that this reader gives."""

    @property
    def d(self) -> int:
        """Width of a row."""
        return sum(batches.d for batches in self._batches)

    @property
    def n_bytes(self) -> int:
        """Memory held for buffers."""
        return sum(batches.n_bytes for batches in self._batches)

    def batch(self, step: int) -> Float32[Tensor, "batch d"]:
        """The rows of a step, the same whatever was asked for before."""
        return self.fill(step, torch.empty(self.n_in_share, self.d))

    def fill(self, step: int, out: Float32[Tensor, "batch d"]) -> Float32[Tensor, "batch d"]:
        """As `batch`, into `out`."""
        widths = [batches.d for batches in self._batches]
        for batches, place in zip(self._batches, out.split(widths, dim=1), strict=True):
            batches.fill(step, place)
        return out

    def row_numbers(self, step: int) -> Int[np.ndarray, "batch"]:
        """The numbers within the split of the rows in `batch(step)`."""
        return self._batches[0].row_numbers(step)

    @property
    def all_documents(self) -> Int[np.ndarray, "row"]:
        """The document of every row of the split."""
        return self._batches[0].all_documents

    def close(self) -> None:
        """Gives the memory back."""
        for batches in self._batches:
            batches.close()


def _check_equal_rows(one: Activations, other: Activations) -> None:
    same_tokens = np.array_equal(one.tokens.document_start, other.tokens.document_start) and np.array_equal(
        one.tokens.ids, other.tokens.ids
    )
    if not same_tokens:
        raise InputError(
            f"{one.folder} and {other.folder} hold other tokens; two models go together where they share a tokenizer "
            "and read the same text"
        )
    for split in SPLITS:
        if not all(
            np.array_equal(mine(split), theirs(split))
            for mine, theirs in ((one.documents, other.documents), (one.positions, other.positions))
        ):
            raise InputError(
                f"{one.folder} and {other.folder} keep other rows of the {split} split; harvest both with the same "
                "`exclude`, in one part"
            )
