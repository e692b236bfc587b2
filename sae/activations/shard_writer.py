"""Writes one HDF5 shard: rows of one split, for every site, with the document and position each row comes from.

1. Rows are written in whole chunks of `CHUNK_ROWS`; only the last chunk of a shard may be partly filled.
2. What is summed over the rows of the train split is summed chunk by chunk, of the rows as they are stored, so that it
   does not depend on how rows arrive and can be had again from the file. A thread does it while the chunk is written.
3. A shard is written under `<name>.part`, with its places in attributes, hashed, synced to disk, and then takes its
   name: a shard that has its name is whole.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from sae.activations.config import Compression, Encoding
from sae.activations.contents import SiteContents
from sae.activations.encoding import STORED, encode, rows_of, values, width
from sae.activations.hdf5 import append, close, create_file, growing, growing_in_place, write_chunk
from sae.activations.place import Place
from sae.activations.rows import Rows
from sae.activations.shard import CHUNK_ROWS, COLUMNS, dataset_of
from sae.activations.sums import SiteSums
from sae.activations.writeback import begin_writing
from sae.core.artifact import HALF_WRITTEN, digest_of, sync
from sae.core.splits import Split
from sae.core.threads import limit_threads
from sae.kernels.aligned import aligned_zeros

_CHUNKS_AT_ONCE = 8
"""Chunks after which the system is asked to write them."""


@dataclass(frozen=True)
class Storage:
    """How shards are written."""

    folder: Path
    sites: tuple[SiteContents, ...]
    dtype: Encoding
    compression: Compression
    shard_rows: int
    n_vocabulary: int
    piece: int
    """Most tokens that the model reads of a document at once."""

    def sums(self, split: Split) -> dict[str, SiteSums]:
        """Empty sums for the sites of a shard; none but for the train split."""
        return {site.name: SiteSums(site.d, self.n_vocabulary, self.piece) for site in self.sites if split == "train"}


@dataclass(frozen=True)
class Written:
    """A shard that is full and closed, and has no name yet."""

    path: Path
    """The name that it will have."""
    n_rows: int
    end: Place
    left_out: tuple[int, int]
    sums: Mapping[str, SiteSums]
    errors: Mapping[str, float]
    """Per site Σ ‖x − stored‖², for int8."""

    @property
    def unnamed(self) -> Path:
        """Where it lies until then."""
        return _unnamed(self.path)

    def synced(self) -> str:
        """SHA-256 of the file, which is on the disk then; it is hashed while the system still writes."""
        digest = digest_of(self.unnamed)
        sync(self.unnamed)
        return digest

    def publish(self) -> None:
        """Gives the file its name."""
        self.unnamed.rename(self.path)
        sync(self.path.parent)


def _unnamed(path: Path) -> Path:
    return path.with_name(path.name + ".part")


class Chunk:
    """Rows that are written together."""

    def __init__(self, columns: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        """
        Args:
            columns: shape and type of a row of each dataset.
        """
        self.columns = {name: aligned_zeros((CHUNK_ROWS, *shape), dtype) for name, (shape, dtype) in columns.items()}
        self.ids = np.zeros(CHUNK_ROWS, np.int32)
        """Of the tokens; not written."""
        self.n = 0
        self.summed: Future[None] | None = None

    def empty(self) -> None:
        """Takes all rows away, once they are summed over."""
        summed, self.summed = self.summed, None
        if summed is not None:
            summed.result()
        self.n = 0


class ShardWriter:
    """Writes one shard, up to its name."""

    def __init__(self, path: Path, split: Split, storage: Storage, start: Place) -> None:
        self.path = path
        self.n_rows = 0
        self._sites = tuple(site.name for site in storage.sites)
        self._dtype: Encoding = storage.dtype
        self._plain = storage.compression == "none"
        self._part = _unnamed(path)
        self._file = create_file(self._part, self._plain)
        self._pages = self._part.open("r+b", buffering=0)
        self._file.attrs.update({"split": split, "start": start})
        self._end, self._left_out = start, np.zeros(2, np.int64)
        self._sums = storage.sums(split)
        self._errors = dict.fromkeys(self._sites, 0.0)
        self._datasets: dict[str, h5py.Dataset] = {
            name: growing_in_place(self._file, name, (), np.dtype("<i4"), CHUNK_ROWS) for name in COLUMNS
        }
        for site in storage.sites:
            columns = (width(site.d, storage.dtype),)
            kind = STORED[storage.dtype]
            name = dataset_of(site.name)
            if self._plain:
                rows = growing_in_place(self._file, name, columns, kind, CHUNK_ROWS)
            else:
                rows = growing(self._file, name, columns, kind, CHUNK_ROWS, storage.compression)
            rows.attrs.update({"site": site.name, "d": site.d, "dtype": storage.dtype})
            self._datasets[site.name] = rows
        columns = {name: (d.shape[1:], d.dtype) for name, d in self._datasets.items()}
        self._chunk, self._other = Chunk(columns), Chunk(columns)
        self._summing = ThreadPoolExecutor(1, "sums", limit_threads, (torch.get_num_threads(),))
        self._n_chunks = 0

    def append(self, rows: Rows) -> None:
        """Adds rows, whose numbers are not encoded yet."""
        done = 0
        while done < len(rows):
            take = min(len(rows) - done, CHUNK_ROWS - self._chunk.n)
            self._hold(rows[done : done + take])
            done += take
            if self._chunk.n == CHUNK_ROWS:
                self._flush()
        if len(rows):
            self._end = rows.end()
            self._left_out += rows.left_out.sum(0)

    def _hold(self, rows: Rows) -> None:
        chunk = self._chunk
        place = slice(chunk.n, chunk.n + len(rows))
        chunk.columns["document"][place] = rows.document
        chunk.columns["position"][place] = rows.position
        chunk.ids[place] = rows.ids
        for site, x in rows.sites.items():
            held = chunk.columns[site][place]
            if self._dtype == "int8":
                held[:] = stored = encode(x, self._dtype)
                error = x.float() - values(rows_of(stored, self._dtype), self._dtype)
                self._errors[site] += float(error.square().sum(dtype=torch.float64))
            else:
                rows_of(held, self._dtype).copy_(x)
        chunk.n += len(rows)

    def _flush(self) -> None:
        """Writes the chunk while a thread sums over it; the next rows go into the other one."""
        chunk = self._chunk
        if self._sums:
            chunk.summed = self._summing.submit(self._sum, chunk)
        for name, rows in self._datasets.items():
            if self._plain or name in COLUMNS:
                write_chunk(rows, self.n_rows, chunk.columns[name], chunk.n, self._pages.fileno())
            else:
                append(rows, chunk.columns[name][: chunk.n])
        self.n_rows += chunk.n
        self._n_chunks += 1
        if self._n_chunks % _CHUNKS_AT_ONCE == 0:
            begin_writing(self._pages.fileno())
        self._chunk, self._other = self._other, chunk
        self._chunk.empty()

    def _sum(self, chunk: Chunk) -> None:
        for site, sums in self._sums.items():
            stored = rows_of(chunk.columns[site][: chunk.n], self._dtype)
            x = values(stored, self._dtype) if self._dtype == "int8" else stored  # others are widened on the way
            sums.update(x, chunk.columns["position"][: chunk.n], chunk.ids[: chunk.n])

    def finish(self, rest: Sequence[int] | np.ndarray = (0, 0)) -> Written:
        """Writes what is pending and closes the file.

        Args:
            rest: rows left out after the last one, at the end of a split: of high norm, not finite.
        """
        if self._chunk.n:
            self._flush()
        self._other.empty()
        self._summing.shutdown()
        left_out = self._left_out + np.asarray(rest)
        self._file.attrs.update({"end": self._end, "left_out": left_out})
        close(self._file)
        begin_writing(self._pages.fileno())
        self._pages.close()
        high, not_finite = left_out.tolist()
        return Written(self.path, self.n_rows, self._end, (high, not_finite), self._sums, self._errors)

    def abandon(self) -> None:
        """Closes the file and removes it."""
        self._summing.shutdown()
        with suppress(OSError):  # what it cannot write any more is not wanted
            close(self._file)
        self._pages.close()
        self._part.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Removes what a process that died had not finished."""
    for pattern in ("*.part", "*.part.tmp", HALF_WRITTEN):
        for file in folder.glob(pattern):
            file.unlink()
