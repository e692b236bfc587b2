"""Texts to documents: BOS once, cut from their own first token, counted, within the budget."""

from collections.abc import Callable

import numpy as np
import pytest

from sae.core.splits import Fractions, split_of
from sae.lm import Corpus, Document, Documents, LoadedModel, Text

FRACTIONS = Fractions(train=0.5, validation=0.25, test=0.25)
TEXTS = [Text("she saw the cat ."), Text(""), Text("the cat is good . he saw the film .", group="a"), Text("  ")]


def documents(
    loaded: LoadedModel,
    texts: list[Text],
    prefix: tuple[int, ...] = (1,),
    budget: int | None = None,
    distinct: bool = True,
) -> tuple[list[Document], Documents]:
    made = Documents(loaded.tokenizer, Corpus(texts, distinct), prefix, FRACTIONS, budget)
    return list(made), made


@pytest.mark.parametrize("prefix", [(), (1,), (1, 2)])
def test_a_document_is_one_text_after_its_prefix(of_words: Callable[..., LoadedModel], prefix: tuple[int, ...]) -> None:
    loaded = of_words()
    found, made = documents(loaded, TEXTS, prefix)
    assert [document.source for document in found] == [0, 2]
    assert [document.index for document in found] == [0, 1]
    for document in found:
        text = TEXTS[document.source]
        ids = loaded.tokenizer(text.text, add_special_tokens=False)["input_ids"]
        assert document.ids.tolist() == [*prefix, *ids]
        assert document.split == split_of(text.group or text.text, FRACTIONS)
    counts = made.counts
    assert (counts.n_texts, counts.n_empty, counts.n_duplicates, counts.n_documents) == (4, 2, 0, 2)
    assert counts.n_tokens == sum(len(document.ids) for document in found)


def test_a_text_that_brings_its_prefix_gets_it_once(of_words: Callable[..., LoadedModel]) -> None:
    """Chat templates write BOS themselves."""
    plain, _ = documents(of_words(), [Text("she saw the cat")])
    brought, _ = documents(of_words(), [Text("<bos> she saw the cat")])
    assert brought[0].ids.tolist() == plain[0].ids.tolist()
    only, made = documents(of_words(), [Text("<bos>")])
    assert (only, made.counts.n_empty) == ([], 1)


def test_duplicates_are_dropped_and_counted(of_words: Callable[..., LoadedModel]) -> None:
    texts = [Text(t) for t in ("she saw", "a cat", "she saw", "she saw .", "a cat", "a boy")]
    found, made = documents(of_words(), texts * 100)
    assert [document.source for document in found] == [0, 1, 3, 5]
    assert made.counts.n_duplicates == 596
    kept, made = documents(of_words(), texts, distinct=False)
    assert (len(kept), made.counts.n_duplicates) == (6, 0)


def test_pieces_are_cut_from_the_documents_own_first_token() -> None:
    document = Document(3, np.arange(23, dtype=np.int32), "train", 5)
    pieces = list(document.pieces(10))
    assert [(piece.document, piece.start, len(piece.ids)) for piece in pieces] == [(3, 0, 10), (3, 10, 10), (3, 20, 3)]
    assert np.concatenate([piece.ids for piece in pieces]).tolist() == document.ids.tolist()


def test_token_budget_is_met_exactly(of_words: Callable[..., LoadedModel]) -> None:
    """Up to a rest that holds no more than BOS."""
    texts = [Text("she saw the cat .")] * 10
    for budget in (6, 20, 33):
        found, made = documents(of_words(), texts, budget=budget, distinct=False)
        assert budget - 1 <= sum(len(document.ids) for document in found) <= budget
        assert made.counts.n_texts == len(found) == made.counts.n_documents
    assert sum(len(d.ids) for d in documents(of_words(), texts, budget=10_000, distinct=False)[0]) == 60


def test_many_and_long_texts_come_whole_and_in_order(of_words: Callable[..., LoadedModel]) -> None:
    """More than go into one call of the tokenizer."""
    words = ["she", "saw", "the", "cat"]
    texts = [Text(" ".join(words[: 1 + i % 4] * (1 + i % 300))) for i in range(1000)]
    found, _ = documents(of_words(), texts, distinct=False)
    assert [document.source for document in found] == list(range(1000))
    assert [len(document.ids) for document in found] == [1 + len(text.text.split()) for text in texts]
