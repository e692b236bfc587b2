"""HDF5 files whose bytes follow from their contents alone, and datasets that grow by whole chunks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sae.core.errors import InputError


def create_file(path: Path) -> h5py.File:
    """A new file; its old-style object headers carry no times."""
    return h5py.File(path, "w", libver=("earliest", "v110"))


def close(file: h5py.File) -> None:
    """Writes what HDF5 still holds and closes the file.

    Raises:
        OSError: the disk is full, or cannot be written for another reason.
    """
    try:
        file.close()
    except RuntimeError as error:  # how h5py tells that closing could not write
        raise OSError(str(error)) from None


def growing(
    file: h5py.File,
    name: str,
    columns: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk_rows: int,
    compression: str = "none",
) -> h5py.Dataset:
    """An empty dataset of rows of shape `columns`.

    Args:
        compression: none (no filter), lz4 or zstd, after the bits of equal weight of a block were put together.
    """
    return file.create_dataset(
        name,
        (0, *columns),
        dtype,
        maxshape=(None, *columns),
        chunks=(chunk_rows, *columns),
        track_times=False,
        **_filter(compression),
    )


def _filter(compression: str) -> Mapping[str, Any]:
    if compression == "none":
        return {}
    return load_plugin().Bitshuffle(cname=compression)


def load_plugin() -> Any:
    """The library whose import teaches HDF5 its compressions.

    Raises:
        InputError: it is not installed.
    """
    try:
        import hdf5plugin
    except ImportError:
        raise InputError("compressed activations need the extra `compress`: pip install 'sae[compress]'") from None
    return hdf5plugin


def append(dataset: h5py.Dataset, rows: np.ndarray) -> None:
    """Adds rows at the end."""
    n = dataset.shape[0]
    dataset.resize(n + len(rows), axis=0)
    dataset[n:] = rows


def write_chunk(dataset: h5py.Dataset, n: int, rows: np.ndarray) -> None:
    """Adds a whole chunk, as its bytes lie in the file, to a dataset without filters that has `n` rows, whole chunks.

    Through the low-level interface: what h5py asks on the way costs more than writing the chunk.
    """
    dataset.id.set_extent((n + len(rows), *rows.shape[1:]))
    dataset.id.write_direct_chunk((n, *(0 for _ in rows.shape[1:])), rows)


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset of a file.

    Raises:
        KeyError: the file has none of this name.
    """
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f"{name} is no dataset")
    return found


def read(file: h5py.File, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows [start, stop) of a dataset."""
    return np.asarray(dataset(file, name)[start:stop])
