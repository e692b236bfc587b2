"""HDF5 files whose bytes follow from their contents alone, and datasets that grow by whole chunks."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np


def create_file(path: Path) -> h5py.File:
    """A new file; its old-style object headers carry no times."""
    return h5py.File(path, "w", libver=("earliest", "v110"))


def growing(file: h5py.File, name: str, width: tuple[int, ...], dtype: np.dtype[Any], chunk_rows: int) -> h5py.Dataset:
    """An empty dataset of rows of shape `width`, without filters."""
    return file.create_dataset(
        name, (0, *width), dtype, maxshape=(None, *width), chunks=(chunk_rows, *width), track_times=False
    )


def append(dataset: h5py.Dataset, rows: np.ndarray) -> None:
    """Adds rows at the end."""
    n = dataset.shape[0]
    dataset.resize(n + len(rows), axis=0)
    dataset[n:] = rows


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
