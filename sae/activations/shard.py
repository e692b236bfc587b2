"""One HDF5 shard for reading: rows of one split, for every site, with the document and position each row comes from.

HDF5 is asked once, on opening, where chunks lie; how they are read is `sae.activations.chunks`.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Int, Int32, Shaped

from sae.activations.chunks import CHUNK_ROWS, load_filters, read_compressed, read_plain
from sae.activations.config import Encoding
from sae.activations.contents import SiteContents
from sae.activations.encoding import STORED, width
from sae.activations.hdf5 import DAMAGE, chunk_offsets, dataset, read
from sae.core.artifact import MEND
from sae.core.errors import WorldError

COLUMNS = ("document", "position")


def dataset_of(site: str) -> str:
    """Path of a site's dataset inside a shard."""
    return f"activations/{site}"


class Shard:
    """A shard for reading, checked against what `contents.json` says of it."""

    def __init__(self, path: Path, n_rows: int, sites: tuple[SiteContents, ...], encoding: Encoding) -> None:
        """Raises WorldError where the file is missing, cut, or of another shape or dtype."""
        self.path = path
        self.n_rows = n_rows
        self._sites = {site.name: site for site in sites}
        self._encoding: Encoding = encoding
        self._compressed: set[str] = set()
        self._offsets: dict[str, Int[np.ndarray, "chunk"]] = {}
        try:
            with h5py.File(path, "r") as file:
                self._check(file)
        except WorldError:
            raise
        except DAMAGE as error:
            raise WorldError(f"shard {path} cannot be read ({error}); {MEND}") from None

    def _check(self, file: h5py.File) -> None:
        """Without the attributes, which are text: HDF5 reads some damaged texts without end."""
        expected: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            name: ((self.n_rows,), np.dtype("<i4")) for name in COLUMNS
        }
        for site in self._sites.values():
            expected[dataset_of(site.name)] = ((self.n_rows, width(site.d, self._encoding)), STORED[self._encoding])
        for name, (shape, dtype) in expected.items():
            rows = dataset(file, name)
            if (rows.shape, rows.dtype) != (shape, dtype):
                raise WorldError(
                    f"shard {self.path} has {name} of shape {rows.shape} and dtype {rows.dtype}, "
                    f"expected {shape} and {dtype}"
                )
        for site in self._sites:
            self._check_chunks(dataset(file, dataset_of(site)), site)
        for name in expected:
            self._offsets[name] = self._index(file, name)

    def _index(self, file: h5py.File, name: str) -> Int[np.ndarray, "chunk"]:
        try:
            return chunk_offsets(file, name)
        except DAMAGE as error:
            raise WorldError(
                f"shard {self.path} has a damaged index of {name} ({error}); sae verify names what is"
            ) from None

    def _check_chunks(self, rows: h5py.Dataset, site: str) -> None:
        if rows.chunks is None or rows.chunks[0] != CHUNK_ROWS or rows.chunks[1] != rows.shape[1]:
            raise WorldError(
                f"shard {self.path} has {rows.name} in chunks of {rows.chunks}, expected {CHUNK_ROWS} whole rows"
            )
        if load_filters(rows, self.path):
            self._compressed.add(site)

    @cached_property
    def documents(self) -> Int32[np.ndarray, "row"]:
        """Document of every row."""
        return self._read_column("document")

    @cached_property
    def positions(self) -> Int32[np.ndarray, "row"]:
        """Position of every row in its document."""
        return self._read_column("position")

    def _read_column(self, name: str) -> Int32[np.ndarray, "row"]:
        try:
            with h5py.File(self.path, "r") as file:
                return read(file, name)
        except DAMAGE as error:
            raise WorldError(f"shard {self.path} cannot be read ({error}); sae verify names what is damaged") from None

    def read(
        self,
        site: str,
        runs: Int[np.ndarray, "run 2"],
        out: Shaped[np.ndarray, "row width"],
        to: Int[np.ndarray, "read"],
        past_memory: bool = False,
    ) -> None:
        """Reads runs of rows [start, stop); the i-th row read becomes row `to[i]` of `out`, of the stored type.

        Args:
            past_memory: whether what lies apart is not worth keeping in the page cache.

        Raises:
            WorldError: the file ends before its rows do, or a compressed chunk is damaged.
        """
        if site not in self._compressed:
            read_plain(self.path, self._offsets[dataset_of(site)], runs, out, to, past_memory)
            return
        try:
            with h5py.File(self.path, "r") as file:
                read_compressed(dataset(file, dataset_of(site)), runs, out, to)
        except DAMAGE as error:
            raise WorldError(f"shard {self.path} has a damaged chunk ({error}); sae verify names what is") from None
