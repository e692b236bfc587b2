"""Writes one HDF5 shard: rows of one split, for every site, with the document and position each row comes from.

1. Rows are written in whole chunks of `CHUNK_ROWS`; only the last chunk of a shard may be partly filled.
2. A shard is written under `<name>.part` and takes its name when it is whole.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from sae.activations.config import Encoding
from sae.activations.contents import SiteContents
from sae.activations.encoding import STORED, width
from sae.activations.hdf5 import append, create_file, growing
from sae.activations.shard import CHUNK_ROWS, COLUMNS, dataset_of


class ShardWriter:
    """Writes one shard; `finish` gives it its name."""

    def __init__(self, path: Path, split: str, sites: tuple[SiteContents, ...], encoding: Encoding) -> None:
        self.path = path
        self.n_rows = 0
        self._part = path.with_name(path.name + ".part")
        self._file = create_file(self._part)
        self._file.attrs["split"] = split
        self._datasets: dict[str, h5py.Dataset] = {
            name: growing(self._file, name, (), np.dtype("<i4"), CHUNK_ROWS) for name in COLUMNS
        }
        for site in sites:
            rows = growing(self._file, dataset_of(site.name), (width(site.d, encoding),), STORED[encoding], CHUNK_ROWS)
            rows.attrs.update({"site": site.name, "d": site.d, "dtype": encoding})
            self._datasets[site.name] = rows
        self._pending = {n: np.zeros((CHUNK_ROWS, *d.shape[1:]), d.dtype) for n, d in self._datasets.items()}
        self._n_pending = 0

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Adds rows: `document`, `position` and one array of stored words per site."""
        n = len(columns["document"])
        done = 0
        while done < n:
            take = min(n - done, CHUNK_ROWS - self._n_pending)
            for name, pending in self._pending.items():
                pending[self._n_pending : self._n_pending + take] = columns[name][done : done + take]
            self._n_pending += take
            done += take
            if self._n_pending == CHUNK_ROWS:
                self._flush()

    def _flush(self) -> None:
        for name, rows in self._datasets.items():
            append(rows, self._pending[name][: self._n_pending])
        self.n_rows += self._n_pending
        self._n_pending = 0

    def finish(self) -> None:
        """Writes what is pending, closes the file and gives it its name."""
        if self._n_pending:
            self._flush()
        self._file.close()
        self._part.rename(self.path)

    def abandon(self) -> None:
        """Closes the file and removes it."""
        self._file.close()
        self._part.unlink(missing_ok=True)
