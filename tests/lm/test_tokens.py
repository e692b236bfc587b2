"""Text to documents, documents to windows, and the law that packing changes no activation."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sae.core.errors import InputError
from sae.core.splits import Fractions, split_of
from sae.lm import Document, LoadedModel, Text, batches, pack, pad, reading, special_mask, tokenize
from sae.lm.tiny import N_VOCAB
from sae.lm.tokens import prefix_ids, special_ids

FRACTIONS = Fractions(train=0.9, validation=0.05, test=0.05)
SITES = ["blocks.0.attn_out", "blocks.2.resid_post", "logits"]


def documents_of(lengths: list[int], split: str = "train") -> list[Document]:
    random = np.random.default_rng(0)
    return [
        Document(index, random.integers(3, N_VOCAB, length).astype(np.int32), split, index)  # pyright: ignore
        for index, length in enumerate(lengths)
    ]


def test_packed_documents_equal_documents_alone(model: nn.Module) -> None:
    documents = documents_of([12, 1, 5, 1, 1, 9, 3, 20, 7, 2])
    n_seen = 0
    for packed in batches(documents, window=20, batch=2):
        with reading(model, SITES) as together:
            model(**packed.inputs())
        for index in packed.documents[packed.valid].unique().tolist():
            with reading(model, SITES) as alone:
                model(input_ids=torch.from_numpy(documents[index].ids).long()[None])
            here = packed.documents == index
            for site in SITES:
                torch.testing.assert_close(together[site][here], alone[site][0], atol=2e-5, rtol=1e-5)
            assert torch.equal(packed.positions[here], torch.arange(len(documents[index].ids)))
            n_seen += 1
    assert n_seen == len(documents)


def test_padded_texts_equal_texts_alone(model: nn.Module) -> None:
    sequences = [document.ids for document in documents_of([7, 2, 11])]
    with reading(model, SITES) as together:
        model(**pad(sequences, pad_id=5).inputs())
    for row, ids in enumerate(sequences):
        with reading(model, SITES) as alone:
            model(input_ids=torch.from_numpy(ids).long()[None])
        for site in SITES:
            torch.testing.assert_close(together[site][row, : len(ids)], alone[site][0], atol=2e-5, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 16), max_size=60), st.integers(1, 5))
def test_packing_places_every_document_once_and_never_overfills(lengths: list[int], n_open: int) -> None:
    windows = pack(lengths, 16, n_open)
    assert sorted(number for members in windows for number in members) == list(range(len(lengths)))
    assert all(0 < sum(lengths[number] for number in members) <= 16 for members in windows)
    assert windows == pack(lengths, 16, n_open)


def test_packing_wastes_little_on_short_documents() -> None:
    lengths = np.random.default_rng(0).integers(5, 40, 4000).tolist()
    assert sum(lengths) / (128 * len(pack(lengths, 128))) > 0.98


def test_batches_hold_whole_documents_of_one_split() -> None:
    documents = documents_of([3, 4, 5, 6])
    found = list(batches(documents, window=8, batch=2))
    assert [len(packed.input_ids) for packed in found] == [2, 1]
    assert sum(int(packed.valid.sum()) for packed in found) == 18
    for packed in found:
        for index in packed.documents[packed.valid].unique().tolist():
            assert packed.input_ids[packed.documents == index].tolist() == documents[index].ids.tolist()
    with pytest.raises(InputError, match="2 splits"):
        list(batches([*documents, *documents_of([3], "test")], window=8, batch=2))
    with pytest.raises(InputError, match="document 3 has 6 tokens"):
        list(batches(documents, window=5, batch=2))


@pytest.mark.parametrize("bos", [True, False])
def test_long_texts_become_pieces_that_each_begin_anew(of_words: Callable[..., LoadedModel], bos: bool) -> None:
    loaded = of_words(bos)
    texts = [Text("she saw the cat ."), Text(""), Text("the cat is good . he saw the film .", group="a")]
    documents = list(tokenize(loaded, texts, 5, FRACTIONS))
    prefix = [1] if bos else []
    assert prefix_ids(loaded.tokenizer) == prefix
    for number, text in enumerate(texts):
        pieces = [document for document in documents if document.source == number]
        ids = [int(i) for piece in pieces for i in piece.ids[len(prefix) :]]
        assert ids == loaded.tokenizer(text.text, add_special_tokens=False)["input_ids"]
        assert all(piece.ids[: len(prefix)].tolist() == prefix for piece in pieces)
        assert all(piece.split == split_of(text.group or text.text, FRACTIONS) for piece in pieces)
    assert [document.index for document in documents] == list(range(len(documents)))
    assert max(len(document.ids) for document in documents) == 5


def test_token_budget_is_met_exactly(of_words: Callable[..., LoadedModel]) -> None:
    texts = [Text("she saw the cat .")] * 10
    for budget in (6, 20, 33):
        documents = list(tokenize(of_words(), iter(texts), 8, FRACTIONS, max_tokens=budget))
        assert budget - 1 <= sum(len(document.ids) for document in documents) <= budget
    assert sum(len(document.ids) for document in tokenize(of_words(), texts, 8, FRACTIONS, 10_000)) == 60


def test_window_without_room_is_refused(of_words: Callable[..., LoadedModel]) -> None:
    for window in (1, 65):
        with pytest.raises(InputError, match=f"window {window} must lie between 2 and the model's 64"):
            list(tokenize(of_words(), [Text("she")], window, FRACTIONS))


def test_unknown_words_are_text_and_no_special_tokens(of_words: Callable[..., LoadedModel]) -> None:
    tokenizer = of_words().tokenizer
    assert special_ids(tokenizer) == {1, 2}
    assert special_mask(tokenizer, np.array([[1, 0, 4], [5, 2, 1]])).tolist() == [
        [True, False, False],
        [False, True, True],
    ]


def test_empty_batch_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        pad([])
