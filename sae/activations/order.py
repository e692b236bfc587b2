"""The order in which a split's rows are visited, as arithmetic: any position is found without what came before.

1. The n rows of a split are cut into slices of `slice_rows` consecutive rows (the last may be shorter).
2. Each epoch permutes the slices and deals them, in that order, into as few buffers as hold at most `buffer_rows`
   rows each, of equal size.
3. The rows of a buffer are permuted. The epoch is its buffers one after the other: every row exactly once.
4. Epochs follow each other without a gap; batch s holds the positions [s · batch, (s + 1) · batch).

Slices much shorter than a document spread each document over many buffers, which is what makes a batch nearly as
mixed as uniform sampling although a buffer holds only a part of the rows.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from sae.core.errors import InputError
from sae.core.random import numpy_generator


class Place(NamedTuple):
    """A position in the endless sequence of rows."""

    epoch: int
    buffer: int
    offset: int
    """Rows of the buffer that come before."""


class Part(NamedTuple):
    """Consecutive positions in one buffer."""

    epoch: int
    buffer: int
    start: int
    stop: int


class Epoch(NamedTuple):
    """One permutation of the slices."""

    slices: Int[np.ndarray, "slice"]
    first_slice: Int[np.ndarray, "buffer_plus_one"]
    """Where in `slices` each buffer begins."""
    first_row: Int[np.ndarray, "buffer_plus_one"]
    """How many rows of the epoch come before each buffer."""


class Buffer(NamedTuple):
    """What a buffer holds and in which order it gives it out."""

    runs: Int[np.ndarray, "run 2"]
    """Row numbers [start, stop) in reading order, neighbours joined."""
    permutation: Int[np.ndarray, "row"]
    """The i-th row given out is the `permutation[i]`-th read."""

    @property
    def places(self) -> Int[np.ndarray, "row"]:
        """When each row is given out, in reading order: the inverse of `permutation`."""
        places = np.empty_like(self.permutation)
        places[self.permutation] = np.arange(len(places))
        return places

    @property
    def rows(self) -> Int[np.ndarray, "row"]:
        """Row numbers in the order given out."""
        read = np.concatenate([np.arange(start, stop) for start, stop in self.runs.tolist()])
        return read[self.permutation]


class RowOrder:
    """Every position's row, from (seed, epoch, position) alone."""

    def __init__(self, n_rows: int, seed: int, buffer_rows: int, slice_rows: int) -> None:
        """Raises InputError where there is nothing to order."""
        if n_rows < 1 or slice_rows < 1 or buffer_rows < slice_rows:
            raise InputError(f"cannot shuffle {n_rows} rows in buffers of {buffer_rows} and slices of {slice_rows}")
        self.n_rows = n_rows
        n_slices = -(-n_rows // slice_rows)
        self.n_buffers = -(-n_slices // (buffer_rows // slice_rows))
        self.most_rows = min(n_rows, -(-n_slices // self.n_buffers) * slice_rows)
        """Rows of the largest buffer, or a few more."""
        self._seed = seed
        self._slice_rows = slice_rows
        self._epoch = lru_cache(maxsize=2)(self._permuted)

    def _permuted(self, epoch: int) -> Epoch:
        n_slices = -(-self.n_rows // self._slice_rows)
        slices = numpy_generator(self._seed, "slices", epoch).permutation(n_slices)
        first_slice = np.arange(self.n_buffers + 1) * n_slices // self.n_buffers
        first_row = first_slice * self._slice_rows
        missing = n_slices * self._slice_rows - self.n_rows
        short = int(np.flatnonzero(slices == n_slices - 1)[0])
        return Epoch(slices, first_slice, first_row - missing * (first_slice > short))

    def place(self, position: int) -> Place:
        """Where the row at `position` of the endless sequence lies."""
        epoch, row = divmod(position, self.n_rows)
        first_row = self._epoch(epoch).first_row
        buffer = int(np.searchsorted(first_row, row, "right")) - 1
        return Place(epoch, buffer, row - int(first_row[buffer]))

    def parts(self, position: int, end: int) -> Iterator[Part]:
        """The positions [position, end) of the endless sequence, buffer by buffer."""
        while position < end:
            epoch, buffer, offset = self.place(position)
            stop = min(self.n_in(epoch, buffer), offset + end - position)
            yield Part(epoch, buffer, offset, stop)
            position += stop - offset

    def rows(self, position: int, end: int) -> Int[np.ndarray, "row"]:
        """The row numbers at positions [position, end), at least one."""
        parts = self.parts(position, end)
        return np.concatenate([self.buffer(p.epoch, p.buffer).rows[p.start : p.stop] for p in parts])

    def n_in(self, epoch: int, buffer: int) -> int:
        """Rows of a buffer."""
        first_row = self._epoch(epoch).first_row
        return int(first_row[buffer + 1] - first_row[buffer])

    def after(self, epoch: int, buffer: int) -> tuple[int, int]:
        """The epoch and number of the next buffer."""
        return (epoch, buffer + 1) if buffer + 1 < self.n_buffers else (epoch + 1, 0)

    def buffer(self, epoch: int, buffer: int) -> Buffer:
        """The rows of a buffer, read in the order of the disk, given out permuted."""
        slices, first_slice, _ = self._epoch(epoch)
        starts = np.sort(slices[first_slice[buffer] : first_slice[buffer + 1]]) * self._slice_rows
        stops = np.minimum(starts + self._slice_rows, self.n_rows)
        apart = np.flatnonzero(starts[1:] != stops[:-1])
        runs = np.stack([starts[np.r_[0, apart + 1]], stops[np.r_[apart, len(stops) - 1]]], axis=1)
        n = self.n_in(epoch, buffer)
        return Buffer(runs, numpy_generator(self._seed, "rows", epoch, buffer).permutation(n))
