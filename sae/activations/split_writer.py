"""The shards of one split, one after the other, each of at most `shard_rows` rows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sae.activations.config import Encoding
from sae.activations.contents import ShardContents, SiteContents
from sae.activations.shard_writer import ShardWriter
from sae.core.splits import Split


class SplitWriter:
    """Appends rows, beginning a new shard `<split>-NNNNN.h5` when one is full."""

    def __init__(
        self, folder: Path, split: Split, sites: tuple[SiteContents, ...], encoding: Encoding, shard_rows: int
    ) -> None:
        self.sites = sites
        self._folder = folder
        self._split: Split = split
        self._encoding: Encoding = encoding
        self._shard_rows = shard_rows
        self._finished: list[ShardContents] = []
        self._writer: ShardWriter | None = None
        self._n_rows = 0

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Adds rows: `document`, `position` and one array of stored words per site."""
        n = len(columns["document"])
        start = 0
        while start < n:
            if self._writer is None:
                name = f"{self._split}-{len(self._finished):05d}.h5"
                self._writer = ShardWriter(self._folder / name, self._split, self.sites, self._encoding)
            stop = min(n, start + self._shard_rows - self._n_rows)
            self._writer.append({name: values[start:stop] for name, values in columns.items()})
            self._n_rows += stop - start
            start = stop
            if self._n_rows == self._shard_rows:
                self._end_shard(self._writer)

    def _end_shard(self, writer: ShardWriter) -> None:
        writer.finish()
        self._finished.append(ShardContents(file=writer.path.name, split=self._split, n_rows=self._n_rows))
        self._writer, self._n_rows = None, 0

    def finish(self) -> tuple[ShardContents, ...]:
        """Ends the last shard; all shards in order."""
        if self._writer is not None:
            self._end_shard(self._writer)
        return tuple(self._finished)

    def abandon(self) -> None:
        """Drops the unfinished shard, if there is one."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
