"""One HDF5 shard: rows of one split, for every site, with the document and position each row comes from.

1. Rows are written in whole chunks of `CHUNK_ROWS`; only the last chunk of a shard may be partly filled.
2. A shard is written under `<name>.part` and takes its name when it is whole.
3. Chunks are stored as they are (no filter), so a reader asks HDF5 once where they lie and then reads bytes with
   `pread`: no library lock is held, nothing is copied twice, and any run of rows costs one system call per chunk.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Int, Int32

from sae.activations.config import Encoding
from sae.activations.contents import SiteContents
from sae.activations.encoding import STORED
from sae.activations.hdf5 import append, create_file, dataset, growing, read
from sae.core.errors import WorldError

CHUNK_ROWS = 1024
COLUMNS = ("document", "position")


def dataset_of(site: str) -> str:
    """Path of a site's dataset inside a shard."""
    return f"activations/{site}"


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
            rows = growing(self._file, dataset_of(site.name), (site.d,), STORED[encoding], CHUNK_ROWS)
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


class Shard:
    """A shard for reading, checked against what `contents.json` says of it."""

    def __init__(self, path: Path, n_rows: int, sites: tuple[SiteContents, ...], encoding: Encoding) -> None:
        """Raises WorldError where the file is missing, cut, or of another shape or dtype."""
        self.path = path
        self.n_rows = n_rows
        self._sites = {site.name: site for site in sites}
        self._encoding: Encoding = encoding
        self._offsets: dict[str, Int[np.ndarray, "chunk"]] = {}
        try:
            with h5py.File(path, "r") as file:
                self._check(file)
        except (OSError, KeyError) as error:
            raise WorldError(f"shard {path} cannot be read ({error}); delete {path.parent} and harvest again") from None

    def _check(self, file: h5py.File) -> None:
        expected: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            name: ((self.n_rows,), np.dtype("<i4")) for name in COLUMNS
        }
        for site in self._sites.values():
            expected[dataset_of(site.name)] = ((self.n_rows, site.d), STORED[self._encoding])
        for name, (shape, dtype) in expected.items():
            rows = dataset(file, name)
            found = (rows.shape, rows.dtype, rows.attrs.get("dtype", self._encoding))
            if found != (shape, dtype, self._encoding):
                raise WorldError(
                    f"shard {self.path} has {name} of shape {found[0]} and dtype {found[1]} ({found[2]}), "
                    f"expected {shape} and {dtype} ({self._encoding})"
                )

    @cached_property
    def documents(self) -> Int32[np.ndarray, "row"]:
        """Document of every row."""
        return self._read_column("document")

    @cached_property
    def positions(self) -> Int32[np.ndarray, "row"]:
        """Position of every row in its document."""
        return self._read_column("position")

    def _read_column(self, name: str) -> Int32[np.ndarray, "row"]:
        with h5py.File(self.path, "r") as file:
            return read(file, name)

    def read(self, site: str, runs: Int[np.ndarray, "run 2"], out: np.ndarray) -> None:
        """Reads runs of rows [start, stop) one after the other into `out` [row, d], of the stored dtype.

        Raises:
            WorldError: the file ends before its rows do.
        """
        offsets = self._chunk_offsets(site)
        row_bytes = out.itemsize * out.shape[1]
        target = out.reshape(-1).view(np.uint8).data
        at = 0
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            for start, stop in _within_chunks(runs):
                n_bytes = (stop - start) * row_bytes
                place = int(offsets[start // CHUNK_ROWS]) + (start % CHUNK_ROWS) * row_bytes
                if os.preadv(descriptor, [target[at : at + n_bytes]], place) != n_bytes:
                    raise WorldError(f"shard {self.path} ends before row {stop} of {site}")
                at += n_bytes
        finally:
            os.close(descriptor)

    def _chunk_offsets(self, site: str) -> Int[np.ndarray, "chunk"]:
        """Where in the file each chunk of a site lies."""
        if site not in self._offsets:
            offsets = np.zeros(-(-self.n_rows // CHUNK_ROWS), np.int64)
            with h5py.File(self.path, "r") as file:

                def note(chunk: Any) -> None:
                    offsets[chunk.chunk_offset[0] // CHUNK_ROWS] = chunk.byte_offset

                dataset(file, dataset_of(site)).id.chunk_iter(note)
            self._offsets[site] = offsets
        return self._offsets[site]


def _within_chunks(runs: Int[np.ndarray, "run 2"]) -> list[tuple[int, int]]:
    """The runs, cut at chunk boundaries."""
    pieces = []
    for start, stop in runs.tolist():
        while start < stop:
            end = min(stop, start - start % CHUNK_ROWS + CHUNK_ROWS)
            pieces.append((start, end))
            start = end
    return pieces
