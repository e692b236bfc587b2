"""What was written is read back, in any order; a damaged folder is never read."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from sae.activations.config import Encoding
from sae.activations.contents import FILE
from sae.activations.encoding import TORCH, encode, rows_of
from sae.activations.hdf5 import chunk_offsets, dataset
from sae.activations.reader import Activations
from sae.activations.shuffle import ShuffledBatches
from sae.core.errors import InputError, WorldError
from sae.lm.packing import Packing

SITES = {"blocks.0.resid_post": 4, "blocks.1.resid_post": 6}


@pytest.fixture(scope="module")
def activations(tmp_path_factory: pytest.TempPathFactory, write_rows: Callable[..., None]) -> Activations:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder, n_documents=400, length=10, sites=SITES, encoding="float32", shard_rows=1500)
    return Activations(folder)


def test_rows_point_into_the_token_stream(activations: Activations) -> None:
    assert activations.n_rows("train") == 3600
    assert len(list(activations.folder.glob("train-*.h5"))) == 3
    for number, site in enumerate(SITES):
        x = activations.rows("train", site)
        assert torch.equal(x[:, 0] - 100 * number, torch.from_numpy(activations.documents("train")).float())
        assert torch.equal(x[:, 1] - 100 * number, torch.from_numpy(activations.positions("train")).float())
    ids = activations.token_ids("train")
    assert np.array_equal(ids, activations.documents("train") + activations.positions("train"))


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1023, 1025), (1499, 1501), (1400, 3600), (3599, 9999), (5, 5)])
def test_any_range_equals_the_slice_of_the_whole(activations: Activations, start: int, stop: int) -> None:
    site = "blocks.1.resid_post"
    assert torch.equal(activations.rows("train", site, start, stop), activations.rows("train", site)[start:stop])


@pytest.mark.parametrize("site", SITES)
def test_rows_by_number_are_those_rows_in_that_order(activations: Activations, site: str) -> None:
    whole = activations.rows("train", site)
    random = np.random.default_rng(0)
    for numbers in (random.permutation(3600), random.integers(0, 3600, 500), [3599, 0, 1500, 1499, 0], []):
        numbers = np.asarray(numbers, np.int64)
        assert torch.equal(activations.take("train", site, numbers), whole[torch.from_numpy(numbers)])


@pytest.mark.parametrize("number", [-1, 3600])
def test_a_row_that_is_not_there_is_refused(activations: Activations, number: int) -> None:
    with pytest.raises(InputError, match=f"no row {number} in its train split, which has 3600"):
        activations.take("train", "blocks.0.resid_post", np.array([0, number, 5]))


def test_blocks_are_the_split(activations: Activations) -> None:
    blocks = list(activations.blocks("train", "blocks.0.resid_post", 777))
    assert torch.equal(torch.cat([b.x for b in blocks]), activations.rows("train", "blocks.0.resid_post"))
    assert np.array_equal(np.concatenate([b.documents for b in blocks]), activations.documents("train"))


def test_documents_of_the_splits_are_the_stream(activations: Activations) -> None:
    documents = [d for split in ("train", "validation", "test") for d in activations.tokens.documents(split)]
    assert [d.index for d in documents] == list(range(400))
    assert np.array_equal(np.concatenate([d.ids for d in documents]), activations.tokens.ids)
    one = activations.tokens.document(7)
    assert np.array_equal(one.ids, documents[7].ids)
    assert one.split == "train"


def test_the_moments_are_those_of_the_train_rows(activations: Activations) -> None:
    x = activations.rows("train", "blocks.0.resid_post").double()
    moments = activations.moments("blocks.0.resid_post")
    assert moments.count == len(x)
    torch.testing.assert_close(moments.mean, x.mean(0))
    torch.testing.assert_close(moments.variance, x.var(0, correction=0))
    scaled = x * moments.scale
    assert float(scaled.square().sum(1).mean()) == pytest.approx(4)


def test_int8_is_read_back_to_half_a_step_of_its_scale(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    write_rows(tmp_path, n_documents=40, length=50, sites={"embed": 3}, encoding="int8", shard_rows=1000)
    activations = Activations(tmp_path)
    assert activations.n_rows("train") == 1800
    truth = torch.from_numpy(np.stack([activations.documents("train"), activations.positions("train")], 1)).float()
    numbers = np.random.default_rng(0).permutation(1800)
    for x, known in (
        (activations.rows("train", "embed"), truth),
        (activations.take("train", "embed", numbers), truth[torch.from_numpy(numbers)]),
        (next(activations.blocks("train", "embed", 1800)).x, truth),
    ):
        assert ((x[:, :2] - known).abs() <= known.amax(1, keepdim=True) / 254 + 1e-5).all()
    batches = ShuffledBatches(activations, "embed", "train", 100)
    assert torch.equal(batches.batch(3), activations.rows("train", "embed")[batches.row_numbers(3)])
    batches.close()


@pytest.mark.parametrize("encoding", ["float32", "float16", "bfloat16"])
def test_every_dtype_round_trips(tmp_path: Path, write_rows: Callable[..., None], encoding: Encoding) -> None:
    write_rows(tmp_path, n_documents=40, length=8, sites={"embed": 3}, encoding=encoding, shard_rows=1000)
    activations = Activations(tmp_path)
    x = activations.rows("train", "embed")
    assert x[:, 1].tolist() == list(range(8)) * 36
    batches = ShuffledBatches(activations, "embed", "train", 100)
    as_stored = batches.fill(2, torch.empty(100, 3, dtype=TORCH[encoding]))
    assert torch.equal(as_stored.float(), batches.batch(2))
    assert torch.equal(batches.batch(2), x[batches.row_numbers(2)])
    batches.close()
    with h5py.File(tmp_path / "train-00000.h5") as file:
        assert file["activations/embed"].attrs["dtype"] == encoding


def test_bfloat16_words_are_the_numbers() -> None:
    x = torch.randn(50, 7).bfloat16()
    assert encode(x, "bfloat16").dtype == np.uint16
    assert torch.equal(rows_of(encode(x, "bfloat16"), "bfloat16"), x)


@pytest.mark.parametrize("encoding", ["float32", "float16", "bfloat16", "int8"])
def test_chunks_begin_at_pages_and_end_with_zeros(
    tmp_path: Path, write_rows: Callable[..., None], encoding: Encoding
) -> None:
    write_rows(tmp_path, n_documents=150, length=20, sites={"embed": 5}, encoding=encoding, shard_rows=2100)
    n_rows = []
    for path in sorted(tmp_path.glob("train-*.h5")):
        with h5py.File(path) as file:
            n_rows.append(n := len(dataset(file, "document")))
            for name in ("document", "position", "activations/embed"):
                rows = dataset(file, name)
                for first in range(0, n, 1024):
                    chunk = rows.id.get_chunk_info_by_coord((first, *(0 for _ in rows.shape[1:])))
                    assert chunk.byte_offset % 4096 == 0
                    start, row_bytes = chunk.byte_offset, chunk.size // 1024
                    stored = path.read_bytes()[start : start + chunk.size]
                    inside = min(1024, n - first) * row_bytes
                    assert stored[:inside] == rows[first : first + 1024].tobytes()
                    assert not any(stored[inside:])
    assert n_rows == [2100, 600]


def test_an_unknown_site_names_the_nearest(activations: Activations) -> None:
    with pytest.raises(InputError, match="did you mean"):
        activations.d("blocks.1.resid_pst")


def test_a_folder_without_activations_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no activations"):
        Activations(tmp_path)


def _cut(folder: Path) -> None:
    shard = folder / "train-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-100])


def _remove(folder: Path) -> None:
    (folder / "train-00000.h5").unlink()


def _other_width(folder: Path) -> None:
    with h5py.File(folder / "train-00000.h5", "r+") as file:
        del file["activations/embed"]
        file["activations/embed"] = np.zeros((288, 5), "<f4")


def _other_dtype(folder: Path) -> None:
    with h5py.File(folder / "train-00000.h5", "r+") as file:
        del file["activations/embed"]
        file["activations/embed"] = np.zeros((288, 3), "<f8")


def _other_chunks(folder: Path) -> None:
    with h5py.File(folder / "train-00000.h5", "r+") as file:
        attributes = dict(file["activations/embed"].attrs)
        del file["activations/embed"]
        file.create_dataset("activations/embed", (288, 3), "<f4", chunks=(100, 3)).attrs.update(attributes)


def _fewer_rows(folder: Path) -> None:
    with h5py.File(folder / "train-00000.h5", "r+") as file:
        dataset(file, "document").resize(100, axis=0)


def _newer(folder: Path) -> None:
    contents = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(contents | {"format": 4, "unknown": 1}))


def _cut_tokens(folder: Path) -> None:
    tokens = folder / "tokens.h5"
    tokens.write_bytes(tokens.read_bytes()[: tokens.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_cut, "train-00000.h5"),
        (_remove, "train-00000.h5"),
        (_other_width, r"train-00000.h5 has activations/embed of shape \(288, 5\) .* expected \(288, 3\)"),
        (_other_dtype, r"train-00000.h5 has activations/embed of .* dtype float64, expected .* float32"),
        (_other_chunks, "chunks of .100, 3., expected 1024 whole rows"),
        (_fewer_rows, "train-00000.h5"),
        (_newer, r"contents.json has format 4; this version reads up to 3: update sae"),
        (_cut_tokens, "tokens.h5"),
    ],
)
def test_damage_is_found_on_opening(tmp_path: Path, write_rows: Callable[..., None], damage, named: str) -> None:
    write_rows(tmp_path, n_documents=40, length=8, sites={"embed": 3}, encoding="float32", shard_rows=1000)
    damage(tmp_path)
    with pytest.raises(WorldError, match=named):
        Activations(tmp_path)


def nodes_of(whole: bytes | bytearray) -> list[int]:
    """Where HDF5's indices of chunks have their nodes."""
    return [at for at in range(len(whole)) if whole.startswith(b"TREE\x01", at)]


def test_a_damaged_index_of_chunks_is_named(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    """HDF5 gives zeros for what its index has lost."""
    write_rows(tmp_path, n_documents=40, length=8, sites={"embed": 3}, encoding="float32", shard_rows=1000)
    shard = tmp_path / "train-00000.h5"
    whole = shard.read_bytes()
    nodes = nodes_of(whole)
    assert len(nodes) == 3  # document, position, site
    for at in nodes:
        for damage in (b"XREE", b"TREE\x01\x00\x00\x00"):  # no node; a node that names no chunk
            shard.write_bytes(whole[:at] + damage + whole[at + len(damage) :])
            with pytest.raises(WorldError, match=r"train-00000.h5 has a damaged index of "):
                Activations(tmp_path)


def test_damaged_texts_of_attributes_are_not_read(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    """HDF5 reads those of one kind without end."""
    write_rows(tmp_path, n_documents=40, length=8, sites={"embed": 3}, encoding="float32", shard_rows=1000)
    rows = Activations(tmp_path).rows("train", "embed")
    shard = tmp_path / "train-00000.h5"
    whole = bytearray(shard.read_bytes())
    texts = whole.index(b"GCOL") + 16
    whole[texts : texts + 64] = bytes(range(64))
    shard.write_bytes(whole)
    assert torch.equal(Activations(tmp_path).rows("train", "embed"), rows)


def test_a_chunk_at_the_place_of_another_is_named(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    write_rows(tmp_path, n_documents=400, length=8, sites={"embed": 3}, encoding="float32", shard_rows=5000)
    shard = tmp_path / "train-00000.h5"
    whole = bytearray(shard.read_bytes())
    with h5py.File(shard) as file:
        first, second, *_ = chunk_offsets(file, "activations/embed").tolist()
    nodes = nodes_of(whole)
    (place,) = (at for node in nodes if (at := whole.find(second.to_bytes(8, "little"), node, node + 200)) > 0)
    for wrong in (first, 1 << 40, (1 << 64) - 2):
        shard.write_bytes(whole[:place] + wrong.to_bytes(8, "little") + whole[place + 8 :])
        with pytest.raises(WorldError, match=r"train-00000.h5 has a damaged index of activations/embed"):
            Activations(tmp_path)


def test_a_damaged_index_of_the_tokens_is_named(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    write_rows(tmp_path, n_documents=40, length=8, sites={"embed": 3}, encoding="float32", shard_rows=1000)
    tokens = tmp_path / "tokens.h5"
    whole = tokens.read_bytes()
    nodes = nodes_of(whole)
    assert len(nodes) == 4
    for at in nodes:
        tokens.write_bytes(whole[: at + 6] + b"\x00\x00" + whole[at + 8 :])  # a node that names no chunk
        with pytest.raises(WorldError, match=r"tokens.h5 cannot be read"):
            Activations(tmp_path)


def test_format_1_is_read(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    """It had `window` alone, and documents no longer than it."""
    write_rows(tmp_path, n_documents=40, length=8, sites={"embed": 3}, encoding="float32", shard_rows=1000)
    contents = json.loads((tmp_path / FILE).read_text())
    window = contents.pop("packing")["window"]
    (tmp_path / FILE).write_text(json.dumps(contents | {"format": 1, "window": window}))
    activations = Activations(tmp_path)
    assert activations.packing == Packing(window=8)
    assert activations.n_rows("train") == 288


def test_damaged_contents_are_named(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    write_rows(tmp_path, n_documents=40, length=8, sites={"embed": 3}, encoding="float32", shard_rows=1000)
    contents = json.loads((tmp_path / FILE).read_text())
    for damaged in (contents | {"format": 1}, contents | {"sites": [{"name": "a"}]}, {"dtype": "float32"}):
        (tmp_path / FILE).write_text(json.dumps(damaged))
        with pytest.raises(WorldError, match=r"contents.json is damaged: "):
            Activations(tmp_path)
