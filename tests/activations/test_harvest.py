"""Rows on disk are what the model gives for each document alone; nothing is lost, invented or shared between splits."""

import hashlib
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from sae.activations.config import Encoding, Exclude, HarvestConfig, check_parts
from sae.activations.counts import Counts
from sae.activations.harvest import Harvest
from sae.activations.passes import kept_rows
from sae.activations.reader import Activations
from sae.core.artifact import to_publish
from sae.core.errors import InputError, WorldError
from sae.core.splits import SPLITS, Fractions, split_of
from sae.lm.corpus import Text
from sae.lm.hooks import reading
from sae.lm.load import LoadedModel
from sae.lm.packing import Packing, batches, is_encoder, isolates
from sae.lm.tiny import TINY, tiny

SITES = ("embed", "logits", "blocks.1.resid_post")
EVEN = Fractions(train=0.6, validation=0.2, test=0.2)


def config(dtype: Encoding = "float32", special: bool = True, first: int = 0, batch: int = 4) -> HarvestConfig:
    exclude = Exclude(special=special, first=first)
    return HarvestConfig(window=16, dtype=dtype, exclude=exclude, fractions=EVEN, shard_rows=700, batch=batch)


def harvest(
    loaded: LoadedModel,
    texts: list[Text],
    folder: Path,
    settings: HarvestConfig,
    sites: tuple[str, ...] = SITES,
    max_tokens: int | None = None,
) -> Counts:
    folder.mkdir(exist_ok=True)
    run = Harvest(loaded, sites, settings, folder)
    for _ in run.run(texts, max_tokens):
        pass
    return run.counts


@pytest.fixture(scope="module")
def whole(loaded: LoadedModel, texts: list[Text], tmp_path_factory: pytest.TempPathFactory) -> Activations:
    folder = tmp_path_factory.mktemp("harvest")
    harvest(loaded, texts, folder, config())
    return Activations(folder)


def assert_rows_equal_pieces_alone(loaded: LoadedModel, activations: Activations, sites: tuple[str, ...]) -> None:
    n_continued = 0
    prefix, suffix = activations.packing.prefix, activations.packing.suffix
    for split in SPLITS:
        rows = {site: activations.rows(split, site) for site in sites}
        documents, positions = activations.documents(split), activations.positions(split)
        for document in islice(activations.tokens.documents(split), 20):
            for piece in document.pieces(activations.packing.longest):
                with reading(loaded, sites) as captured:
                    loaded(input_ids=torch.tensor([[*prefix, *piece.ids.tolist(), *suffix]]))
                inside = (positions >= piece.start) & (positions < piece.start + len(piece.ids))
                mine = np.flatnonzero((documents == document.index) & inside)
                for site in sites:
                    expected = captured[site][0][positions[mine] - piece.start + len(prefix)]
                    error = (rows[site][mine] - expected).norm(dim=1) / expected.norm(dim=1)
                    assert float(error.max()) < 1e-5
                n_continued += piece.start > 0
    assert n_continued > 0


def test_rows_equal_a_forward_pass_of_each_piece_alone(loaded: LoadedModel, whole: Activations) -> None:
    assert_rows_equal_pieces_alone(loaded, whole, SITES)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2**-10), ("bfloat16", 2**-7)])
def test_smaller_dtypes_hold_the_same_to_their_precision(
    loaded: LoadedModel, texts: list[Text], whole: Activations, tmp_path: Path, dtype: Encoding, tolerance: float
) -> None:
    harvest(loaded, texts, tmp_path, config(dtype))
    again = Activations(tmp_path)
    for site in SITES:
        torch.testing.assert_close(again.rows("train", site), whole.rows("train", site), rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize(("special", "first"), [(True, 0), (False, 0), (True, 3), (False, 2)])
def test_rows_are_all_tokens_but_the_excluded(
    loaded: LoadedModel, texts: list[Text], tmp_path: Path, special: bool, first: int
) -> None:
    counts = harvest(loaded, texts, tmp_path, config(special=special, first=first))
    activations = Activations(tmp_path)
    expected, found = set(), []
    for split in SPLITS:
        found += zip(activations.documents(split).tolist(), activations.positions(split).tolist(), strict=True)
        for document in activations.tokens.documents(split):
            left_out = activations.tokens.is_special(document.ids) & special
            kept = np.flatnonzero(~left_out & (np.arange(len(document.ids)) % 16 >= first))
            expected |= {(document.index, int(position)) for position in kept}
    assert len(found) == len(set(found))
    assert set(found) == expected
    n_left_out = counts.n_special_excluded + counts.n_first_excluded
    assert len(found) + n_left_out == counts.texts.n_tokens == activations.tokens.n_tokens
    assert counts.n_special_excluded == (counts.texts.n_documents if special else 0)


def test_splits_share_no_text(texts: list[Text], whole: Activations) -> None:
    for split in SPLITS:
        sources = {document.source for document in whole.tokens.documents(split)}
        assert sources == {i for i, text in enumerate(texts) if split_of(text.text, EVEN) == split}


def test_rows_of_a_piece_are_consecutive_and_ascending(whole: Activations) -> None:
    documents, positions = whole.documents("train").astype(np.int64), whole.positions("train")
    pieces = documents * 1000 + positions // whole.packing.longest
    changes = np.flatnonzero(np.diff(pieces)) + 1
    assert len(changes) + 1 == len(np.unique(pieces)) > len(np.unique(documents))
    for part in np.split(positions, changes):
        assert np.array_equal(part, np.arange(part[0], part[0] + len(part)))


def test_rows_point_to_their_token_in_the_whole_document(loaded: LoadedModel, whole: Activations) -> None:
    """`embed` says which token a row was: that of its (document, position) in the token stream."""
    table = loaded.model.get_input_embeddings().weight  # pyright: ignore[reportCallIssue]
    for split in SPLITS:
        expected = table[torch.from_numpy(whole.token_ids(split)).long()]
        torch.testing.assert_close(whole.rows(split, "embed"), expected)


@pytest.mark.parametrize("name", TINY)
def test_every_family_gives_what_pieces_alone_give(
    loaded: LoadedModel, texts: list[Text], name: str, tmp_path: Path
) -> None:
    """Isolated within a window where the family allows it, else one piece a row; the folder says which."""
    loaded = replace(loaded, model=tiny(name), name=name)
    sites = ("embed", "blocks.1.resid_post")
    counts = harvest(loaded, texts[:60], tmp_path, config(), sites)
    activations = Activations(tmp_path)
    assert activations.packing.rows == ("isolated" if isolates(loaded) else "single")
    if activations.packing.rows == "single":
        assert counts.n_padding < 0.2 * counts.n_forward
    encoder = is_encoder(loaded)
    assert (activations.packing.prefix, activations.packing.suffix) == ((1,) if encoder else (), ())
    assert counts.n_prefix == (counts.n_pieces if encoder else 0)
    assert "suffix" not in (tmp_path / "contents.json").read_text()
    assert_rows_equal_pieces_alone(loaded, activations, sites)


def test_a_continued_piece_has_no_bos_of_its_own(loaded: LoadedModel, whole: Activations) -> None:
    for split in SPLITS:
        for document in whole.tokens.documents(split):
            assert document.ids[0] == 1
            assert 1 not in document.ids[1:]


@pytest.mark.parametrize("isolate", [True, False])
def test_bos_once_a_window_gives_the_rows_of_that_window(
    loaded: LoadedModel, texts: list[Text], tmp_path: Path, isolate: bool
) -> None:
    """The stream holds no BOS; each window begins with one, which its first piece (or all of them) sees."""
    settings = config().model_copy(update={"bos": "window", "isolate": isolate})
    counts = harvest(loaded, texts[:60], tmp_path, settings, ("blocks.1.resid_post",))
    activations = Activations(tmp_path)
    assert activations.packing == Packing(window=16, rows="isolated" if isolate else "shared", prefix=(1,))
    assert 1 not in activations.tokens.ids
    assert counts.n_special == 0 < counts.n_prefix
    assert sum(counts.n_rows.values()) == counts.texts.n_tokens == activations.tokens.n_tokens
    pieces = [piece for document in activations.tokens.documents("test") for piece in document.pieces(15)]
    for packed in batches(pieces, activations.packing, 4):
        with reading(loaded, ["blocks.1.resid_post"]) as captured:
            loaded(**packed.inputs())
        for row in range(len(packed.input_ids)):
            assert packed.input_ids[row, 0] == 1
            for document in packed.documents[row].unique().tolist():
                here = packed.documents[row] == document
                found = np.flatnonzero(activations.documents("test") == document)
                found = found[np.isin(activations.positions("test")[found], packed.positions[row][here].numpy())]
                if document >= 0:
                    rows = activations.rows("test", "blocks.1.resid_post")[found]
                    torch.testing.assert_close(rows, captured["blocks.1.resid_post"][row][here], rtol=1e-5, atol=1e-5)


def test_parts_refuse_what_depends_on_packing() -> None:
    windows = HarvestConfig(bos="window")
    check_parts(windows, 1)
    check_parts(HarvestConfig(), 8)
    with pytest.raises(InputError, match=r"harvest.bos: window cannot be harvested in 8 parts \(--part\)"):
        check_parts(windows, 8)
    with pytest.raises(InputError, match=r"harvest.isolate: false cannot be harvested in 2 parts \(--part\)"):
        check_parts(HarvestConfig(isolate=False), 2)


@pytest.mark.parametrize("window", [1, 65])
def test_a_window_that_the_model_cannot_read_is_refused(loaded: LoadedModel, tmp_path: Path, window: int) -> None:
    settings = HarvestConfig.model_construct(window=window)
    with pytest.raises(InputError, match=f"harvest.window {window} must lie between 2 and the model's 64 tokens"):
        Harvest(loaded, SITES, settings, tmp_path)


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in to_publish(folder).items()}


def test_the_same_configuration_gives_the_same_bytes(loaded: LoadedModel, texts: list[Text], tmp_path: Path) -> None:
    harvest(loaded, texts, tmp_path / "a", config())
    time.sleep(1.1)  # the resolution of times in HDF5
    harvest(loaded, texts, tmp_path / "b", config())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_what_an_unfinished_harvest_left_is_replaced(
    loaded: LoadedModel, texts: list[Text], whole: Activations, tmp_path: Path
) -> None:
    started = Harvest(loaded, SITES, config(), tmp_path).run(texts)
    next(started)
    (tmp_path / "train-00007.h5.part").write_bytes(b"half")
    (tmp_path / "train-00008.h5").write_bytes(b"of another length")
    del started
    harvest(loaded, texts, tmp_path, config())
    assert digests(tmp_path) == digests(whole.folder)


def test_a_full_shard_begins_another(whole: Activations) -> None:
    names = sorted(file.name for file in whole.folder.glob("train-*.h5"))
    assert names == [f"train-{i:05d}.h5" for i in range(-(-whole.n_rows("train") // 700))]
    assert len(names) > 1


def test_the_batch_changes_no_row(loaded: LoadedModel, texts: list[Text], whole: Activations, tmp_path: Path) -> None:
    harvest(loaded, texts, tmp_path, config(batch=32))
    again = Activations(tmp_path)
    assert np.array_equal(again.documents("train"), whole.documents("train"))
    torch.testing.assert_close(again.rows("train", "embed"), whole.rows("train", "embed"), rtol=1e-5, atol=1e-5)


def test_text_is_cut_at_max_tokens(loaded: LoadedModel, texts: list[Text], tmp_path: Path) -> None:
    counts = harvest(loaded, texts, tmp_path, config(), max_tokens=1010)
    assert counts.texts.n_tokens == 1010 == Activations(tmp_path).tokens.n_tokens


def test_text_that_ends_early_is_told(loaded: LoadedModel, texts: list[Text], tmp_path: Path) -> None:
    run = Harvest(loaded, SITES, config(), tmp_path)
    assert [counts.n_forward for counts in run.run(texts, 10**6)][-1] == run.counts.texts.n_tokens
    assert run.exhausted


def test_empty_text_is_wrong_input(loaded: LoadedModel, tmp_path: Path) -> None:
    for nothing in ([], [Text(""), Text("  ")]):
        with pytest.raises(InputError, match="no tokens"):
            harvest(loaded, nothing, tmp_path, config())


def test_a_split_without_rows_is_named(loaded: LoadedModel, texts: list[Text], tmp_path: Path) -> None:
    train = [text for text in texts if split_of(text.text, EVEN) == "train" and len(text.text) < 40]
    with pytest.raises(InputError, match=f"the validation split has no rows: 0 of {len(train)} documents"):
        harvest(loaded, train, tmp_path, config())


@pytest.mark.parametrize(("value", "error", "says"), [
    (float("nan"), WorldError, r"not finite at document \d+, position \d+, site embed"),
    (1e30, InputError, r"1e\+30 at document \d+, position \d+, site embed is too large for float16"),
])  # fmt: skip
def test_values_that_cannot_be_stored_stop(
    loaded: LoadedModel, texts: list[Text], tmp_path: Path, value: float, error: type[Exception], says: str
) -> None:
    spoiled = replace(loaded, model=tiny("llama"))
    with torch.no_grad():
        spoiled.model.get_input_embeddings().weight[20] = value  # pyright: ignore[reportCallIssue]
    with pytest.raises(error, match=says):
        harvest(spoiled, texts, tmp_path, config("float16"), sites=("embed",))
    assert not list(tmp_path.glob("*.json"))


def test_a_site_without_rows_per_token_is_refused() -> None:
    with pytest.raises(InputError, match="attn_pattern cannot be harvested"):
        kept_rows("blocks.0.attn_pattern", torch.zeros(2, 4, 6, 6), torch.ones(2, 6, dtype=torch.bool))


def test_an_unknown_site_is_refused_before_anything_is_read(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no site"):
        Harvest(loaded, ["blocks.9.resid_post"], config(), tmp_path)
