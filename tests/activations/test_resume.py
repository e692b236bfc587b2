"""A harvest that is stopped anywhere and goes on ends with the same bytes; n parts together hold the rows of one."""

import hashlib
import os
import resource
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae.activations.config import Encoding, Exclude, HarvestConfig
from sae.activations.counts import Counts
from sae.activations.encoding import encode, rows_of, values
from sae.activations.harvest import Harvest
from sae.activations.merge import complete, read_part_contents
from sae.activations.parts import Part, read_part
from sae.activations.reader import Activations
from sae.core.artifact import to_publish
from sae.core.errors import InputError, WorldError
from sae.core.splits import SPLITS, Fractions
from sae.lm.corpus import Text
from sae.lm.load import LoadedModel
from sae.lm.tiny import tiny

SITES = ("embed", "blocks.1.resid_post")
NOISY = 20
"""A token whose rows are not finite, in a model that is spoiled."""
LOUD = 21
"""A token whose rows have a large norm there."""


def config(dtype: Encoding = "float32", batch: int = 4, high_norm: float = 0.0, drop: bool = False) -> HarvestConfig:
    return HarvestConfig(
        window=16,
        dtype=dtype,
        exclude=Exclude(high_norm=high_norm),
        on_nonfinite="drop" if drop else "stop",
        fractions=Fractions(train=0.6, validation=0.2, test=0.2),
        shard_rows=250,
        batch=batch,
    )


@pytest.fixture(scope="module")
def spoiled(loaded: LoadedModel) -> LoadedModel:
    """A model with a token that is not finite and one of large norm."""
    model: Any = tiny("llama")
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[NOISY] = float("nan")
        weight[LOUD] *= 100
    return LoadedModel(model, loaded.tokenizer, "1" * 64, "spoiled")


def harvest(loaded: LoadedModel, texts: list[Text], folder: Path, settings: HarvestConfig) -> Counts:
    folder.mkdir(exist_ok=True)
    run = Harvest(loaded, SITES, settings, folder)
    for _ in run.run(texts):
        pass
    return run.counts


def stopped(loaded: LoadedModel, texts: list[Text], folder: Path, settings: HarvestConfig, n_batches: int) -> None:
    """A harvest that ends after some batches, as an exception ends it."""
    folder.mkdir(exist_ok=True)
    going: Iterator[Counts] = Harvest(loaded, SITES, settings, folder).run(texts)
    for _ in islice(going, n_batches):
        pass
    with pytest.raises(KeyboardInterrupt):
        going.throw(KeyboardInterrupt)  # pyright: ignore[reportAttributeAccessIssue]


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in to_publish(folder).items()}


CASES = [
    config(),
    config("int8"),
    config("bfloat16", high_norm=3.0, drop=True),
    config().model_copy(update={"compression": "zstd"}),
]
NAMES = ["float32", "int8", "filtered", "compressed"]


@pytest.mark.parametrize("settings", CASES, ids=NAMES)
def test_stopped_anywhere_it_ends_with_the_same_bytes(
    spoiled: LoadedModel, loaded: LoadedModel, texts: list[Text], tmp_path: Path, settings: HarvestConfig
) -> None:
    model = spoiled if settings.on_nonfinite == "drop" else loaded
    counts = harvest(model, texts, tmp_path / "whole", settings)
    wanted = digests(tmp_path / "whole")
    for n_batches in (0, 20):
        folder = tmp_path / str(n_batches)
        stopped(model, texts, folder, settings, n_batches)
        assert "contents.json" not in digests(folder)
        stopped(model, texts, folder, settings, n_batches + 2)
        for left in (".tmpA1b2C3", "train-00009.h5.part", "train-00009.h5.sums.beside.part"):  # by a kill
            (folder / left).write_bytes(b"half")
        assert harvest(model, texts, folder, settings) == counts
        assert digests(folder) == wanted


@pytest.mark.parametrize("settings", CASES[:3], ids=NAMES[:3])
def test_any_missing_shards_are_written_again_to_the_same_bytes(
    spoiled: LoadedModel, loaded: LoadedModel, texts: list[Text], tmp_path: Path, settings: HarvestConfig
) -> None:
    model = spoiled if settings.on_nonfinite == "drop" else loaded
    counts = harvest(model, texts, tmp_path, settings)
    wanted = digests(tmp_path)
    shards = sorted(file.name for file in tmp_path.glob("*-0*.h5"))
    assert len(shards) >= 6
    for missing in ({shards[1], shards[2]}, {shards[-1]}, {shards[-2], shards[0]}, set(shards)):
        for name in missing:
            (tmp_path / name).unlink()
        (tmp_path / "contents.json").unlink()
        assert harvest(model, texts, tmp_path, settings) == counts
        assert digests(tmp_path) == wanted


def test_a_torn_shard_is_written_again(loaded: LoadedModel, texts: list[Text], tmp_path: Path) -> None:
    harvest(loaded, texts, tmp_path, config())
    wanted = digests(tmp_path)
    torn = tmp_path / "train-00001.h5"
    torn.write_bytes(torn.read_bytes()[:5000])
    harvest(loaded, texts, tmp_path, config())
    assert digests(tmp_path) == wanted


def filled_up(loaded: LoadedModel, texts: list[Text], folder: Path, n_whole: int) -> None:
    """A harvest whose files may not grow any more once some shards are whole; ends the process, with status 0 if it
    stops as it should (HDF5 cannot live on after a file that it could not close)."""
    try:
        for _ in Harvest(loaded, SITES, config(), folder).run(texts):
            if len(list(folder.glob("*-*.h5"))) >= n_whole:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    except OSError as error:
        os._exit(0 if "File too large" in str(error) else 1)
    os._exit(2)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A forked process has none of the threads that OpenMP would wait for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("n_whole", [1, 4])
def test_a_full_disk_keeps_every_whole_shard(
    loaded: LoadedModel, texts: list[Text], tmp_path: Path, n_whole: int
) -> None:
    harvest(loaded, texts, tmp_path / "whole", config())
    folder = tmp_path / "full"
    folder.mkdir()
    child = os.fork()
    if child == 0:
        filled_up(loaded, texts, folder, n_whole)
    assert os.waitpid(child, 0)[1] == 0
    kept = {file.name: file.stat().st_mtime_ns for file in folder.glob("*-*.h5")}
    assert len(kept) >= n_whole
    harvest(loaded, texts, folder, config())
    assert digests(folder) == digests(tmp_path / "whole")
    assert kept.items() <= {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}.items()


def test_only_missing_windows_go_through_the_model(loaded: LoadedModel, texts: list[Text], tmp_path: Path) -> None:
    seen: list[int] = []
    handle = loaded.model.register_forward_pre_hook(lambda module, inputs, named: seen.append(1), with_kwargs=True)
    try:
        harvest(loaded, texts, tmp_path, config())
        n_whole = len(seen)
        (tmp_path / "train-00001.h5").unlink()
        seen.clear()
        harvest(loaded, texts, tmp_path, config())
    finally:
        handle.remove()
    # one pass for the widths, the shard's own windows, and the last batch of each split, which ends an open gap
    assert 1 < len(seen) <= n_whole // 3


def test_rows_by_their_numbers_are_left_out_and_counted(
    spoiled: LoadedModel, loaded: LoadedModel, texts: list[Text], tmp_path: Path
) -> None:
    """What is dropped is dropped at all sites, and nothing else is."""
    with pytest.raises(WorldError, match=r"not finite at document \d+, position \d+, site embed"):
        harvest(spoiled, texts, tmp_path / "stop", config(high_norm=3.0))
    counts = harvest(spoiled, texts, tmp_path / "drop", config(high_norm=3.0, drop=True))
    harvest(loaded, texts, tmp_path / "all", config())
    dropped, whole = Activations(tmp_path / "drop"), Activations(tmp_path / "all")
    n_noisy = n_loud = 0
    for split in SPLITS:
        ids = whole.token_ids(split)
        kept = dropped.token_ids(split)
        assert np.isin(LOUD, ids)
        assert not np.isin([NOISY, LOUD], kept).any()
        n_noisy += int((ids == NOISY).sum())
        n_loud += int((ids == LOUD).sum())
    # what follows a noisy token in its piece is not finite at the second site either
    assert counts.n_not_finite > n_noisy
    assert counts.n_high_norm_excluded >= n_loud / 2
    n_rows = sum(whole.n_rows(split) for split in SPLITS)
    assert sum(counts.n_rows.values()) + counts.n_not_finite + counts.n_high_norm_excluded == n_rows


def test_int8_keeps_the_numbers_to_half_a_step_and_knows_what_it_lost(
    loaded: LoadedModel, texts: list[Text], tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    run = Harvest(loaded, SITES, config("int8"), tmp_path / "b")
    for _ in run.run(texts):
        pass
    harvest(loaded, texts, tmp_path / "a", config())
    exact, stored = Activations(tmp_path / "a"), Activations(tmp_path / "b")
    for site in SITES:
        x, y = exact.rows("train", site), stored.rows("train", site)
        step = x.abs().amax(1, keepdim=True) / 127
        assert ((x - y).abs() <= step * 0.501).all()
        fvu = float((x - y).double().square().sum() / (y.double() - y.double().mean(0)).square().sum())
        assert run.merged.encoding_fvu[site] == pytest.approx(fvu, rel=1e-3)
    files = {folder: sum(f.stat().st_size for f in (tmp_path / folder).glob("train-*.h5")) for folder in "ab"}
    assert files["b"] < 0.7 * files["a"]
    again = Harvest(loaded, SITES, config("int8"), tmp_path / "b")  # after a kill before it was published
    for _ in again.run(texts):
        pass
    assert again.merged.encoding_fvu == run.merged.encoding_fvu


def test_int8_keeps_the_sign_of_numbers_near_the_smallest():
    x = torch.full((1, 4), 190 * 1.4e-45)
    kept = values(rows_of(encode(x, "int8"), "int8"), "int8")
    assert (kept > 0).all()


def in_parts(loaded: LoadedModel, texts: list[Text], folder: Path, n: int, settings: HarvestConfig) -> Activations:
    """A harvest in n parts of one folder, joined."""
    folder.mkdir()
    for index in range(n):
        part = folder / f"part-{index}"
        part.mkdir()
        for _ in Harvest(loaded, SITES, settings, part, Part(index, n)).run(texts):
            pass
    found = [read_part_contents(folder / f"part-{index}") for index in range(n)]
    for index in range(n):
        for file in (folder / f"part-{index}").iterdir():
            file.rename(folder / file.name)
    complete(folder, [contents for contents in found if contents is not None], loaded.tokenizer.decode)
    return Activations(folder)


@pytest.mark.parametrize("n", [2, 4, 16])
def test_parts_hold_the_rows_of_the_whole(loaded: LoadedModel, texts: list[Text], tmp_path: Path, n: int) -> None:
    settings = config()
    harvest(loaded, texts, tmp_path / "whole", settings)
    whole, parts = Activations(tmp_path / "whole"), in_parts(loaded, texts, tmp_path / "parts", n, settings)
    assert np.array_equal(whole.tokens.ids, parts.tokens.ids)
    for split in SPLITS:
        a, b = order(whole, split), order(parts, split)
        assert np.array_equal(whole.documents(split)[a], parts.documents(split)[b])
        assert np.array_equal(whole.positions(split)[a], parts.positions(split)[b])
        for site in SITES:
            x, y = whole.rows(split, site)[a], parts.rows(split, site)[b]
            assert ((x - y).norm(dim=1) <= 1e-5 * x.norm(dim=1)).all()
    for site in SITES:
        torch.testing.assert_close(whole.moments(site).mean, parts.moments(site).mean)
        assert whole.moments(site).count == parts.moments(site).count


def order(activations: Activations, split: str) -> np.ndarray:
    """Rows sorted by document and position."""
    return np.lexsort((activations.positions(split), activations.documents(split)))  # pyright: ignore[reportArgumentType]


def test_every_document_belongs_to_one_part() -> None:
    for n in (1, 2, 5):
        owners = [[Part(i, n).owns(document) for i in range(n)] for document in range(400)]
        assert all(sum(owns) == 1 for owns in owners)
        assert (np.sum(owners, axis=0) > 200 / n).all()


@pytest.mark.parametrize("part", [Part(), Part(0, 16), Part(3, 4)])
def test_a_shard_is_known_by_its_name_whatever_its_number(part: Part) -> None:
    for number in (0, 7, 99_999, 100_000, 1_234_567):
        assert part.number("train", part.shard("train", number)) == number
    others = [Part(0, 15).shard("train", 1), Part(1, 4).shard("train", 1), part.shard("test", 1), "train-000001.h5"]
    others += ["train-1.h5", "train-.h5", "train-0000x.h5", "tokens.h5"]
    assert all(part.number("train", file) is None for file in others)


@pytest.mark.parametrize("words", ["2/2", "1", "a/b", "-1/2", "0/0", "0/1000", "1/2/3", "½/2"])
def test_a_part_is_written_i_of_n(words: str) -> None:
    with pytest.raises(InputError, match="--part"):
        read_part(words)
    assert read_part("3/16") == Part(3, 16)
