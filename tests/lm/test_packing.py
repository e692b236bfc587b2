"""Pieces to windows: every piece once, little waste, and the law that packing changes no activation."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sae.core.errors import InputError
from sae.lm import (
    Corpus,
    Document,
    Documents,
    LoadedModel,
    Packed,
    Packing,
    Piece,
    Text,
    batches,
    is_encoder,
    isolates,
    pack,
    prefix_of,
    reading,
)
from sae.lm.packing import LOOK_AHEAD_TOKENS, look_ahead
from sae.lm.tiny import N_VOCAB, tiny

SITES = ["embed", "blocks.0.attn_out", "blocks.2.resid_post"]


def pieces_of(lengths: list[int], longest: int = 20) -> list[Piece]:
    random = np.random.default_rng(0)
    ids = [random.integers(3, N_VOCAB, length).astype(np.int32) for length in lengths]
    documents = [Document(index, own, "train", index) for index, own in enumerate(ids)]
    return [piece for document in documents for piece in document.pieces(longest)]


def place(packed: Packed, piece: Piece) -> torch.Tensor:
    """Where a piece stands in a batch."""
    inside = (packed.positions >= piece.start) & (packed.positions < piece.start + len(piece.ids))
    return (packed.documents == piece.document) & inside


def test_packed_pieces_equal_pieces_alone(model: nn.Module) -> None:
    """Within 1e-5 of the activation's size, continued pieces included; one a row where the family has to."""
    pieces = pieces_of([12, 1, 5, 1, 1, 9, 3, 20, 7, 2, 47])
    packing = Packing(window=20, rows="isolated" if isolates(model) else "single")
    n_seen = 0
    for packed in batches(pieces, packing, batch=2):
        with reading(model, SITES) as together:
            model(**packed.inputs())
        for piece in pieces:
            here = place(packed, piece)
            if not here.any():
                continue
            with reading(model, SITES) as alone:
                model(input_ids=torch.from_numpy(piece.ids).long()[None])
            for site in SITES:
                error = (together[site][here] - alone[site][0]).norm(dim=-1)
                assert float((error / alone[site][0].norm(dim=-1)).max()) < 1e-5
            assert packed.positions[here].tolist() == list(range(piece.start, piece.start + len(piece.ids)))
            assert packed.position_ids[here].tolist() == list(range(len(piece.ids)))
            assert packed.input_ids[here].tolist() == piece.ids.tolist()
            n_seen += 1
    assert n_seen == len(pieces) == 13


def test_shared_windows_are_one_text_to_the_model(model: nn.Module) -> None:
    pieces = pieces_of([12, 5, 9, 3, 7])
    for packed in batches(pieces, Packing(window=20, rows="shared", prefix=(1,)), batch=2):
        assert packed.input_ids[:, 0].tolist() == [1] * len(packed.input_ids)
        assert not packed.valid[:, 0].any()
        with reading(model, SITES) as together:
            model(**packed.inputs())
        for row, ids in enumerate(packed.input_ids):
            real = ids[~packed.padding[row]]
            with reading(model, SITES) as alone:
                model(input_ids=real[None])
            for site in SITES:
                torch.testing.assert_close(together[site][row][: len(real)], alone[site][0], atol=2e-5, rtol=1e-5)


def test_a_prefix_is_seen_by_the_first_piece_of_a_window_alone() -> None:
    packing = Packing(window=8, prefix=(1, 2))
    assert packing.longest == 6
    (packed,) = batches(pieces_of([3, 2], 6), packing, batch=4)
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 4, 0, 1]]
    assert packed.documents.tolist() == [[-1, -1, 0, 0, 0, 1, 1]]
    assert packed.positions.tolist() == [[0, 0, 0, 1, 2, 0, 1]]


def test_a_suffix_stands_after_the_last_piece_of_a_window() -> None:
    packing = Packing(window=8, rows="single", prefix=(1,), suffix=(2, 3))
    assert packing.longest == 5
    (packed,) = batches(pieces_of([7, 1], 5), packing, batch=4)
    assert packed.input_ids[:, 6:].tolist() == [[2, 3], [0, 0], [0, 0]]
    assert packed.input_ids[1, 3:5].tolist() == packed.input_ids[2, 2:4].tolist() == [2, 3]
    assert packed.documents.tolist() == [[-1, *[0] * 5, -1, -1], [-1, 0, 0, *[-1] * 5], [-1, 1, *[-1] * 6]]
    assert packed.position_ids.tolist() == [list(range(8)), [*range(5), 0, 0, 0], [*range(4), 0, 0, 0, 0]]
    assert (~packed.padding).sum(1).tolist() == [8, 5, 4]
    assert packed.positions[1].tolist() == [0, 5, 6, 0, 0, 0, 0, 0]
    (shared,) = batches(pieces_of([2, 1], 5), Packing(window=8, rows="shared", prefix=(1,), suffix=(2,)), batch=4)
    assert shared.position_ids.tolist() == [[0, 1, 2, 3, 4]]


def test_files_name_a_suffix_only_where_there_is_one() -> None:
    assert Packing(window=8).model_dump() == {"window": 8, "rows": "isolated", "prefix": ()}
    packing = Packing(window=8, rows="single", prefix=(1,), suffix=(2,))
    for one in (packing, Packing(window=8)):
        assert Packing.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_windows_of_an_encoder_are_what_its_tokenizer_writes(name: str, of_words: Callable[..., LoadedModel]) -> None:
    """Of a text that fits into one; a longer one is cut, and every piece stands between the same tokens."""
    loaded = replace(of_words(), model=tiny(name))
    prefix = prefix_of(loaded.tokenizer, "tokenizer", is_encoder(loaded))
    texts = [Text("the cat is good ."), Text("she saw the bad film . the girl is good .")]
    packing = Packing(window=8, rows="single", prefix=prefix.window, suffix=prefix.window_end)
    documents = list(Documents(loaded.tokenizer, Corpus(texts), prefix.document))
    pieces = [piece for document in documents for piece in document.pieces(packing.longest)]
    for packed in batches(pieces, packing, batch=2):
        assert packed.input_ids.shape[1] <= 8
        with reading(loaded, SITES) as together:
            loaded(**packed.inputs())
        for row, ids in enumerate(packed.input_ids):
            real = ids[~packed.padding[row]]
            assert [real[0], real[-1]] == [1, 2]
            if 0 in packed.documents[row]:
                assert real.tolist() == loaded.tokenizer(texts[0].text)["input_ids"]
            with reading(loaded, SITES) as alone:
                loaded(input_ids=real[None])
            for site in SITES:
                torch.testing.assert_close(together[site][row][: len(real)], alone[site][0], atol=2e-5, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 16), max_size=60))
def test_packing_places_every_piece_once_and_never_overfills(lengths: list[int]) -> None:
    windows = pack(lengths, 16)
    assert sorted(number for members in windows for number in members) == list(range(len(lengths)))
    assert all(0 < sum(lengths[number] for number in members) <= 16 for members in windows)
    assert windows == pack(lengths, 16) == sorted(windows)


@pytest.mark.parametrize(("shortest", "longest"), [(5, 40), (1, 12), (10, 64), (1, 128)])
def test_packing_wastes_at_most_two_percent_where_pieces_are_short(shortest: int, longest: int) -> None:
    lengths = np.random.default_rng(0).integers(shortest, longest + 1, 6000)
    assert 1 - lengths.sum() / (128 * len(pack(lengths.tolist(), 128))) < 0.02


def test_a_batch_is_as_long_as_its_longest_row() -> None:
    pieces = pieces_of([3, 19, 4, 18, 5, 2])
    found = list(batches(pieces, Packing(window=20, rows="single"), batch=2))
    assert [packed.input_ids.shape for packed in found] == [(2, 19), (2, 5), (2, 3)]
    assert sum(int(packed.padding.sum()) for packed in found) == 1 + 1 + 1
    for packed in found:
        assert packed.inputs()["attention_mask"].bool().equal(packed.valid)


def test_what_is_packed_together_follows_from_the_pieces_alone() -> None:
    pieces = pieces_of([7] * 40)
    assert [len(together) for together in look_ahead(iter(pieces), 70)] == [10] * 4
    assert [len(together) for together in look_ahead(iter(pieces), 100)] == [15, 15, 10]
    assert Packing(window=128).look_ahead == LOOK_AHEAD_TOKENS
    assert Packing(window=8192).look_ahead == 512 * 8192


def test_pieces_that_do_not_fit_are_refused() -> None:
    for rows in ("isolated", "single"):
        with pytest.raises(InputError, match="piece 1 has 6 tokens; a window holds 1 to 5"):
            list(batches(pieces_of([3, 6]), Packing(window=5, rows=rows), batch=2))
