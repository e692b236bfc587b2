"""How large the files of a harvest become, from those of a smaller one.

A dataset of HDF5 grows by whole chunks, so its bytes are chunks times what a chunk took; a compressed one grows with
its rows. What a file holds beside chunks, and files of other kinds, stay as they are.
"""

import math
from pathlib import Path
from typing import NamedTuple

import h5py

from sae.core.config import Strict
from sae.core.splits import SPLITS, Fractions


class Amount(Strict):
    """How much a harvest holds."""

    n_tokens: int
    n_documents: int
    n_rows: int
    """Of all splits."""


class Files(NamedTuple):
    """What a harvest of some amount would write."""

    bytes_on_disk: int
    largest: int
    """Bytes of its largest file."""


class _Dataset(NamedTuple):
    length: int
    chunk: int
    """Rows in a chunk; 0 where it does not grow."""
    bytes_per_chunk: float
    compressed: bool


def files_of(folder: Path, sample: Amount, whole: Amount, fractions: Fractions, shard_rows: int) -> Files:
    """The files of a harvest of `whole`, from the folder of one of `sample`.

    Args:
        folder: a finished harvest.
        sample: what it holds.
        whole: what the larger one would hold.
        fractions: of the larger one's splits.
        shard_rows: most rows in one shard.
    """
    shard = min(folder.glob("train-*.h5"))
    datasets = _datasets(shard)
    beside = _beside(shard, datasets)
    sizes = [(_stream_bytes(folder / "tokens.h5", sample, whole), 1)]
    sizes += [(file.stat().st_size, 1) for file in folder.iterdir() if file.is_file() and file.suffix != ".h5"]
    for split in SPLITS:
        for n_rows, n_shards in _shards(whole.n_rows, getattr(fractions, split), shard_rows).items():
            sizes.append((beside + sum(_grown(dataset, n_rows) for dataset in datasets), n_shards))
    return Files(sum(size * n for size, n in sizes), max(size for size, n in sizes if n))


def _shards(n_rows: int, fraction: float, most: int) -> dict[int, int]:
    """Shards of a split by the rows that they hold."""
    n = max(1, round(n_rows * fraction))
    full, rest = divmod(n, most)
    return {most: full} | ({rest: 1} if rest else {})


def _stream_bytes(file: Path, sample: Amount, whole: Amount) -> int:
    """Of the token stream, whose datasets have an entry a token or an entry a document."""
    datasets = _datasets(file)
    lengths = {sample.n_tokens: whole.n_tokens}
    lengths |= {sample.n_documents + extra: whole.n_documents + extra for extra in (0, 1)}
    return _beside(file, datasets) + sum(
        _grown(dataset, lengths.get(dataset.length, dataset.length)) for dataset in datasets
    )


def _grown(dataset: _Dataset, length: int) -> int:
    return round(_n_chunks(length, dataset.chunk, dataset.compressed) * dataset.bytes_per_chunk)


def _n_chunks(length: int, chunk: int, compressed: bool) -> float:
    """A partly filled chunk takes a whole one's room, but if it is compressed."""
    if not chunk:
        return 1
    return length / chunk if compressed else math.ceil(length / chunk)


def _beside(file: Path, datasets: list[_Dataset]) -> int:
    """Bytes of a file that are no data."""
    return file.stat().st_size - sum(_grown(dataset, dataset.length) for dataset in datasets)


def _datasets(file: Path) -> list[_Dataset]:
    found: list[_Dataset] = []

    def note(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            length, chunk = item.shape[0] if item.shape else 1, item.chunks[0] if item.chunks else 0
            compressed = item.id.get_create_plist().get_nfilters() > 0
            n_chunks = max(_n_chunks(length, chunk, compressed), 1e-9)
            found.append(_Dataset(length, chunk, item.id.get_storage_size() / n_chunks, compressed))

    with h5py.File(file, "r") as opened:
        opened.visititems(note)
    return found
