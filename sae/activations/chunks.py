"""Reading runs of rows out of the chunks of a shard.

Plain chunks lie in the file as they are, so a run is one piece of the file per chunk that it touches: no library lock
is held (`sae.kernels.scatter`). Compressed chunks are read whole through HDF5, each
decompressed once however many runs lie in it.
"""

import importlib
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int, Shaped

from sae.core.errors import WorldError
from sae.kernels.scatter import read_rows

CHUNK_ROWS = 1024
_OTHERS = 256
"""Filters with this number or a higher one are not part of HDF5."""


def within_chunks(runs: Int[np.ndarray, "run 2"]) -> Int[np.ndarray, "piece 2"]:
    """Runs [start, stop) of at least one row, cut at the borders of chunks."""
    first, last = runs[:, 0] // CHUNK_ROWS, (runs[:, 1] - 1) // CHUNK_ROWS
    n_pieces = last - first + 1
    run = np.repeat(np.arange(len(runs)), n_pieces)
    within = np.arange(len(run)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    chunk = (first[run] + within) * CHUNK_ROWS
    return np.stack([np.maximum(runs[run, 0], chunk), np.minimum(runs[run, 1], chunk + CHUNK_ROWS)], axis=1)


def read_plain(
    path: Path,
    offsets: Int[np.ndarray, "chunk"],
    runs: Int[np.ndarray, "run 2"],
    out: Shaped[np.ndarray, "row width"],
    to: Int[np.ndarray, "read"],
    past_memory: bool = False,
) -> None:
    """Reads runs of rows; the i-th row read becomes row `to[i]` of `out`.

    Args:
        path: the shard.
        offsets: where in the file each chunk of 1,024 rows lies.
        runs: rows [start, stop), at least one each.
        out: memory of the stored type, C-contiguous.
        to: distinct rows of it.
        past_memory: see `sae.kernels.scatter`.

    Raises:
        WorldError: the file ends before its rows do.
    """
    row_bytes = out.itemsize * out.shape[1]
    pieces = within_chunks(runs)
    starts = pieces[:, 0]
    places = offsets[starts // CHUNK_ROWS] + starts % CHUNK_ROWS * row_bytes
    ends = np.cumsum(pieces[:, 1] - starts)
    try:
        read_rows(path, places, ends, out, to, past_memory)
    except EOFError:
        raise WorldError(f"shard {path} ends before its rows do; sae verify names what is damaged") from None


def read_compressed(
    rows: h5py.Dataset,
    runs: Int[np.ndarray, "run 2"],
    out: Shaped[np.ndarray, "row width"],
    to: Int[np.ndarray, "read"],
) -> None:
    """As `read_plain`, from a dataset with filters; what two runs share is decompressed once if they ascend.

    Raises:
        OSError: a chunk is damaged.
    """
    held, chunk, at = -1, np.empty((CHUNK_ROWS, out.shape[1]), out.dtype), 0
    for start, stop in within_chunks(runs).tolist():
        first = start - start % CHUNK_ROWS
        if first != held:
            last = min(first + CHUNK_ROWS, rows.shape[0])
            rows.read_direct(chunk, np.s_[first:last], np.s_[: last - first])
            held = first
        out[to[at : at + stop - start]] = chunk[start - first : stop - first]
        at += stop - start


def load_filters(rows: h5py.Dataset, path: Path) -> bool:
    """Whether a dataset is compressed; makes its filters known to HDF5.

    Raises:
        WorldError: it is compressed in a way that takes hdf5plugin, which is not installed.
    """
    properties = rows.id.get_create_plist()
    numbers = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if any(number >= _OTHERS for number in numbers) and not _plugin():
        raise WorldError(f"shard {path} is compressed; reading it takes hdf5plugin: pip install 'sae[compress]'")
    return bool(numbers)


def _plugin() -> bool:
    try:
        importlib.import_module("hdf5plugin")
    except ImportError:
        return False
    return True
