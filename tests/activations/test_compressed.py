"""Compressed shards give what plain ones give; what they need is named where it is missing."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import torch

from sae.activations.chunks import read_compressed
from sae.activations.config import Compression, Encoding
from sae.activations.hdf5 import dataset
from sae.activations.reader import Activations
from sae.activations.shuffle import Mixing, ShuffledBatches
from sae.core.errors import WorldError

SITE = "embed"


def compress(folder: Path, filters: Mapping[str, Any]) -> None:
    """Writes the shards' activations anew with filters."""
    for path in folder.glob("*-*.h5"):
        with h5py.File(path, "r+") as file:
            old = dataset(file, f"activations/{SITE}")
            rows, chunks, attributes = old[:], old.chunks, dict(old.attrs)
            del file[f"activations/{SITE}"]
            new = file.create_dataset(
                f"activations/{SITE}", data=rows, chunks=chunks, maxshape=(None, rows.shape[1]), **filters
            )
            new.attrs.update(attributes)


@pytest.fixture
def folder(tmp_path: Path, write_rows: Callable[..., None]) -> Path:
    write_rows(tmp_path, n_documents=200, length=30, sites={SITE: 4}, encoding="float16", shard_rows=2500)
    return tmp_path


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, hdf5plugin.Zstd(), hdf5plugin.Blosc(cname="lz4")])
def test_they_give_what_plain_shards_give(folder: Path, filters: Mapping[str, Any]) -> None:
    plain = Activations(folder)
    whole, shuffled = plain.rows("train", SITE), ShuffledBatches(plain, SITE, "train", 64, 0, Mixing(2000, 8))
    steps = (0, 1, 40, 90)
    batches = [shuffled.batch(step) for step in steps]
    numbers = np.random.default_rng(0).permutation(plain.n_rows("train"))
    compress(folder, filters)
    compressed = Activations(folder)
    assert torch.equal(compressed.rows("train", SITE), whole)
    assert torch.equal(compressed.take("train", SITE, numbers), whole[torch.from_numpy(numbers)])
    again = ShuffledBatches(compressed, SITE, "train", 64, 0, Mixing(2000, 8))
    assert all(torch.equal(again.batch(step), batch) for step, batch in zip(steps, batches, strict=True))
    again.close()
    shuffled.close()


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_what_is_written_compressed_is_smaller_and_the_same(
    tmp_path: Path, write_rows: Callable[..., None], compression: Compression
) -> None:
    found = {}
    for name in ("none", compression):
        (tmp_path / name).mkdir()
        sizes = {"n_documents": 200, "length": 30, "sites": {SITE: 32}, "encoding": "float16", "shard_rows": 2500}
        write_rows(tmp_path / name, **sizes, compression=name)
        found[name] = Activations(tmp_path / name)
    assert torch.equal(found[compression].rows("train", SITE), found["none"].rows("train", SITE))
    bytes_of = {name: sum(file.stat().st_size for file in (tmp_path / name).glob("*-*.h5")) for name in found}
    assert bytes_of[compression] < bytes_of["none"] / 2, "thirty of the numbers of a row are equal"
    with h5py.File(tmp_path / compression / "train-00000.h5") as file:
        filters = dataset(file, f"activations/{SITE}").id.get_create_plist()
        assert [filters.get_filter(i)[0] for i in range(filters.get_nfilters())] == [32008]


def test_a_chunk_is_decompressed_once_in_an_ascending_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compress(folder, hdf5plugin.Zstd())
    reads = []
    read_direct = h5py.Dataset.read_direct
    monkeypatch.setattr(
        h5py.Dataset, "read_direct", lambda *arguments: (reads.append(arguments[2]), read_direct(*arguments))
    )
    starts = np.arange(0, 2500, 50)
    out = np.empty((500, 4), "<f2")
    with h5py.File(folder / "train-00000.h5") as file:
        runs = np.stack([starts, starts + 10], axis=1)
        read_compressed(dataset(file, f"activations/{SITE}"), runs, out, np.arange(500))
    assert [(one.start, one.stop) for one in reads] == [(0, 1024), (1024, 2048), (2048, 2500)]


def test_without_hdf5plugin_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compress(folder, hdf5plugin.Zstd())
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(WorldError, match=r"train-00000\.h5 is compressed.*pip install 'sae\[compress\]'"):
        Activations(folder)


def test_a_damaged_chunk_names_the_shard(folder: Path) -> None:
    compress(folder, hdf5plugin.Zstd())
    path = folder / "train-00000.h5"
    with h5py.File(path) as file:
        place = dataset(file, f"activations/{SITE}").id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(WorldError, match=r"train-00000\.h5 has a damaged chunk"):
        Activations(folder).rows("train", SITE)


def test_encodings_are_those_of_plain_shards(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    encodings: tuple[Encoding, ...] = ("int8", "bfloat16", "float32")
    for encoding in encodings:
        folder = tmp_path / encoding
        folder.mkdir()
        write_rows(folder, n_documents=40, length=8, sites={SITE: 4}, encoding=encoding, shard_rows=1000)
        whole = Activations(folder).rows("train", SITE)
        compress(folder, hdf5plugin.Blosc())
        assert torch.equal(Activations(folder).rows("train", SITE), whole)
