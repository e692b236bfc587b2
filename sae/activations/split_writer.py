"""The shards of one split that are not there yet, each of at most `shard_rows` rows.

Rows arrive in the order of the split. Each goes into the gap that it belongs to, or nowhere if its shard is finished.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from sae.activations.finished import Finished, seal
from sae.activations.parts import WHOLE, Part
from sae.activations.place import START, Gap
from sae.activations.rows import Rows
from sae.activations.sealing import Sealing
from sae.activations.shard_writer import ShardWriter, Storage
from sae.core.splits import Split

NOTHING_YET = (Gap(0, START, None),)


class SplitWriter:
    """Fills the gaps of one split; `finished` grows by the shards that are full, whole at the latest after `finish`."""

    def __init__(self, storage: Storage, split: Split, gaps: Sequence[Gap] = NOTHING_YET, part: Part = WHOLE) -> None:
        self.finished: list[Finished] = []
        self.n_rows = 0
        """Rows written so far."""
        self._storage, self._part = storage, part
        self._split: Split = split
        self._gaps = list(gaps)
        self._number, self._start = self._gaps[0].first, self._gaps[0].start
        self._writer: ShardWriter | None = None
        self._sealing = Sealing()
        self._n_in_shard = 0

    def append(self, rows: Rows) -> None:
        """Adds those of the rows that are missing, their numbers not encoded yet."""
        while len(rows):
            gap = self._gaps[0]
            inside = rows.after(gap.start)
            beyond = np.zeros(len(rows), bool) if gap.stop is None else rows.after(gap.stop)
            self._fill(rows[int((~inside).sum()) : len(rows) - int(beyond.sum())])
            rows = rows[len(rows) - int(beyond.sum()) :]
            if len(rows):
                self._next_gap()

    def _next_gap(self) -> None:
        """The gap is full; its last shard was finished by its number of rows, or by now."""
        if self._writer is not None:
            self._end_shard(self._writer, (0, 0))
        del self._gaps[0]
        self._number, self._start = self._gaps[0].first, self._gaps[0].start

    def _fill(self, rows: Rows) -> None:
        start = 0
        while start < len(rows):
            if self._writer is None:
                path = self._storage.folder / self._part.shard(self._split, self._number)
                self._writer = ShardWriter(path, self._split, self._storage, self._start)
            stop = min(len(rows), start + self._storage.shard_rows - self._n_in_shard)
            self._writer.append(rows[start:stop])
            self._n_in_shard += stop - start
            self.n_rows += stop - start
            start = stop
            if self._n_in_shard == self._storage.shard_rows:
                self._end_shard(self._writer, (0, 0))

    def _end_shard(self, writer: ShardWriter, rest: Sequence[int] | np.ndarray) -> None:
        self._sealing.wait()
        written = writer.finish(rest)
        self._writer = None
        self._sealing.do(partial(seal, written))
        self.finished.append(
            Finished(
                number=self._number,
                start=self._start,
                end=written.end,
                n_rows=written.n_rows,
                left_out=written.left_out,
                file=written.path.name,
                split=self._split,
                part=self._part,
            )
        )
        self._n_in_shard = 0
        self._number, self._start = self._number + 1, written.end

    def finish(self, rest: Sequence[int] | np.ndarray = (0, 0)) -> None:
        """Ends the last shard and waits until all are whole.

        Args:
            rest: rows left out after the last one: of high norm, not finite.
        """
        if self._writer is not None:
            self._end_shard(self._writer, rest)
        self._sealing.wait()
        self._sealing.close()

    def abandon(self) -> None:
        """Drops the unfinished shard, if there is one; one that is full is still made whole."""
        self._sealing.close()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.abandon()
