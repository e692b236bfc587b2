"""Shuffled batches of rows, each computed from its step alone, and how well they are mixed.

The order is `sae.activations.order`. Only the buffer that a batch lies in is read, always into the same memory:
`buffer_rows` rows in their stored dtype. (Fresh memory for each costs more in page faults than reading; a thread that
reads the next buffer ahead would double the memory and gained nothing where that was measured.)
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int, Shaped
from scipy.special import gammaln
from torch import Tensor

from sae.activations.encoding import STORED, values, width
from sae.activations.order import RowOrder
from sae.activations.reader import Activations
from sae.core.errors import InputError
from sae.core.splits import Split

BUFFER_ROWS = 1 << 19
SLICE_ROWS = 16


class _Loaded(NamedTuple):
    epoch: int
    buffer: int
    x: Shaped[Tensor, "row width"]
    permutation: Int[Tensor, "row"]


class _Part(NamedTuple):
    epoch: int
    buffer: int
    start: int
    stop: int


class ShuffledBatches:
    """Batches of a split's rows in shuffled order: every row exactly once an epoch, epochs without a gap."""

    def __init__(
        self,
        activations: Activations,
        site: str,
        split: Split = "train",
        batch: int = 4096,
        seed: int = 0,
        buffer_rows: int = BUFFER_ROWS,
        slice_rows: int = SLICE_ROWS,
    ) -> None:
        """Raises InputError where the split has no rows or the site is not there."""
        if batch < 1:
            raise InputError(f"a batch of {batch} rows; it takes at least 1")
        if activations.n_rows(split) == 0:
            raise InputError(f"{activations.folder} has no rows in its {split} split")
        self.n_rows = activations.n_rows(split)
        self.n_per_batch = batch
        self.d = activations.d(site)
        self._activations, self._site = activations, site
        self._split: Split = split
        self._order = RowOrder(self.n_rows, seed, buffer_rows, slice_rows)
        self._memory = np.empty((self._order.most_rows, width(self.d, activations.dtype)), STORED[activations.dtype])
        self._held: _Loaded | None = None

    def batch(self, step: int) -> Float32[Tensor, "batch d"]:
        """The rows of step `step`, the same whatever was asked for before."""
        rows = []
        for part in self._parts(step):
            held = self._loaded(part.epoch, part.buffer)
            taken = held.x.index_select(0, held.permutation[part.start : part.stop])
            rows.append(values(taken, self._activations.dtype))
        return torch.cat(rows) if len(rows) > 1 else rows[0]

    def row_numbers(self, step: int) -> Int[np.ndarray, "batch"]:
        """The numbers within the split of the rows in `batch(step)`."""
        return np.concatenate([self._order.buffer(p.epoch, p.buffer).rows[p.start : p.stop] for p in self._parts(step)])

    def documents(self, step: int) -> Int[np.ndarray, "batch"]:
        """The documents of the rows in `batch(step)`."""
        return self.all_documents[self.row_numbers(step)]

    @property
    def all_documents(self) -> Int[np.ndarray, "row"]:
        """The document of every row of the split."""
        return self._activations.documents(self._split)

    def _parts(self, step: int) -> Iterator[_Part]:
        """The pieces of buffers that make up a batch."""
        position, end = step * self.n_per_batch, (step + 1) * self.n_per_batch
        while position < end:
            epoch, buffer, offset = self._order.place(position)
            stop = min(self._order.n_in(epoch, buffer), offset + end - position)
            yield _Part(epoch, buffer, offset, stop)
            position += stop - offset

    def _loaded(self, epoch: int, buffer: int) -> _Loaded:
        """A buffer; it takes the place of the one before."""
        held = self._held
        if held is None or (held.epoch, held.buffer) != (epoch, buffer):
            self._held = None  # a read that fails leaves half a buffer
            runs, permutation = self._order.buffer(epoch, buffer)
            memory = self._memory[: len(permutation)]
            x = self._activations.read_into(memory, self._split, self._site, runs)
            self._held = held = _Loaded(epoch, buffer, x, torch.from_numpy(permutation))
        return held

    def close(self) -> None:
        """Gives the memory back; the batches cannot be used any more."""
        self._held, self._memory = None, self._memory[:0]


def shuffle_quality(batches: ShuffledBatches, n_batches: int = 32) -> float:
    """Distinct documents per batch over what uniform sampling without replacement gives; 1 is perfect.

    Args:
        batches: the batches to judge.
        n_batches: how many, evenly spread over the first epoch.
    """
    per_epoch = max(1, batches.n_rows // batches.n_per_batch)
    steps = np.unique(np.arange(n_batches) * per_epoch // n_batches)
    distinct = np.mean([len(np.unique(batches.documents(int(step)))) for step in steps])
    return float(distinct / expected_distinct(batches.all_documents, min(batches.n_per_batch, batches.n_rows)))


def expected_distinct(documents: Int[np.ndarray, "row"], n: int) -> float:
    """Distinct documents among `n` rows drawn uniformly without replacement: Σ 1 − C(N − N_d, n) / C(N, n)."""
    total = len(documents)
    sizes = np.unique(documents, return_counts=True)[1]
    left = np.maximum(total - sizes - n, 0)
    log_missing = gammaln(total - sizes + 1) - gammaln(left + 1) - gammaln(total + 1) + gammaln(total - n + 1)
    return float((1 - np.where(sizes > total - n, 0, np.exp(log_missing))).sum())
