"""HDF5 files whose bytes follow from their contents alone, and datasets that grow by whole chunks."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Int

from sae.core.errors import InputError
from sae.kernels.aligned import PAGE

DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError)
"""What h5py raises where a file's own numbers are damaged."""


def create_file(path: Path, aligned: bool = False) -> h5py.File:
    """A new file; its old-style object headers carry no times.

    Args:
        path: where.
        aligned: whether chunks of a page of memory or more begin at one, so that a slice touches no page too many.
    """
    at = PAGE if aligned else 1
    return h5py.File(path, "w", libver=("earliest", "v110"), alignment_threshold=at, alignment_interval=at)


def close(file: h5py.File) -> None:
    """Writes what HDF5 still holds and closes the file.

    Raises:
        OSError: the disk is full, or cannot be written for another reason.
    """
    try:
        file.close()
    except RuntimeError as error:  # how h5py tells that closing could not write
        sys.unraisablehook = _without_what_was_said
        raise OSError(str(error)) from None


def _without_what_was_said(unraisable: "sys.UnraisableHookArgs") -> None:
    """A file that could not be closed is tried again when its objects are collected, in vain: said once is enough."""
    if "decrement id ref count" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


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


def growing_in_place(
    file: h5py.File, name: str, columns: tuple[int, ...], dtype: np.dtype[Any], chunk_rows: int
) -> h5py.Dataset:
    """As `growing`, for `write_chunk`: a chunk has its place as soon as the dataset grows by it, and HDF5 leaves it."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    shape, most, chunks = (0, *columns), (None, *columns), (chunk_rows, *columns)
    return file.create_dataset(name, shape, dtype, maxshape=most, chunks=chunks, track_times=False, dcpl=how)


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


def write_chunk(dataset: h5py.Dataset, n: int, chunk: np.ndarray, n_more: int, descriptor: int) -> None:
    """Adds a chunk, as its bytes lie in the file, to a dataset of `growing_in_place` whose chunks are full.

    Not through HDF5, which would keep every thread of Python waiting.

    Args:
        dataset: where.
        n: rows that it has.
        chunk: all rows of a chunk; those that are no rows of the dataset become zero.
        n_more: rows that are added, the first of the chunk.
        descriptor: of the file, open for writing.

    Raises:
        OSError: the disk is full, or cannot be written for another reason.
    """
    chunk[n_more:] = 0
    dataset.id.set_extent((n + n_more, *chunk.shape[1:]))
    place = dataset.id.get_chunk_info_by_coord((n, *(0 for _ in chunk.shape[1:]))).byte_offset
    left = chunk.reshape(-1).view(np.uint8).data
    while left:
        n_bytes = os.pwrite(descriptor, left, place)
        left, place = left[n_bytes:], place + n_bytes


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


def chunk_offsets(file: h5py.File, name: str) -> Int[np.ndarray, "chunk"]:
    """Where in the file the chunks of a dataset lie, which are runs of rows; none where it has no chunks.

    Raises:
        ValueError: its index has lost a chunk, for which HDF5 gives zeros, or names a place that none can have.
    """
    rows = dataset(file, name)
    if rows.chunks is None:
        return np.zeros(0, np.int64)
    n_bytes = int(np.prod(rows.chunks)) * rows.dtype.itemsize
    plain, end = rows.id.get_create_plist().get_nfilters() == 0, file.id.get_filesize()
    found: dict[int, int] = {}

    def note(chunk: Any) -> None:
        if chunk.filter_mask or (plain and chunk.size != n_bytes) or chunk.byte_offset + chunk.size > end:
            raise ValueError(f"a chunk of {chunk.size} bytes at {chunk.byte_offset}")
        found[chunk.chunk_offset[0]] = chunk.byte_offset

    rows.id.chunk_iter(note)
    starts = range(0, rows.shape[0], rows.chunks[0])
    if found.keys() != set(starts) or len(set(found.values())) != len(found):
        raise ValueError(f"{len(set(found.values()))} chunks, expected {len(starts)}")
    return np.array([found[start] for start in starts], np.int64)
