"""The shuffle loses nothing, repeats itself for a seed, and is uniform where the buffer holds all."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae.lm import Corpus, Text
from sae.lm.corpus import Seen


def order(n: int, buffer: int, seed: int = 0) -> list[int]:
    return [int(text.text) for text in Corpus((Text(str(i)) for i in range(n)), buffer=buffer, seed=seed)]


@given(st.integers(0, 60), st.integers(0, 70), st.integers(0, 3))
def test_every_text_comes_once(n: int, buffer: int, seed: int) -> None:
    found = order(n, buffer, seed)
    assert sorted(found) == list(range(n))
    assert found == order(n, buffer, seed)
    if buffer < 2:
        assert found == list(range(n))
    assert all(text - place <= max(0, buffer) for place, text in enumerate(found))


def test_seeds_differ() -> None:
    assert len({tuple(order(50, 20, seed)) for seed in range(10)}) == 10


@pytest.mark.parametrize(("n", "buffer", "whole"), [(4, 5, True), (5, 5, True), (6, 5, False), (0, 5, True)])
def test_whether_the_buffer_held_all_is_known(n: int, buffer: int, whole: bool) -> None:
    corpus = Corpus([Text(str(i)) for i in range(n)], buffer=buffer)
    next(iter(corpus), None)
    assert corpus.whole_in_buffer == whole


def test_every_order_of_a_small_corpus_is_equally_likely() -> None:
    counts = Counter(tuple(order(3, 5, seed)) for seed in range(1200))
    assert len(counts) == 6
    assert all(abs(count - 200) < 5 * 200**0.5 for count in counts.values())


def test_no_more_is_read_than_the_buffer_needs() -> None:
    source = iter(range(100))
    list(islice(Corpus((Text(str(i)) for i in source), buffer=10), 5))
    assert next(source) <= 16


def test_texts_seen_before_are_known() -> None:
    seen = Seen()
    assert [seen.add(text) for text in ("a", "b", "a", "", "", "é")] == [True, True, False, True, False, True]
    many = [str(i % 20_000) for i in range(25_000)]
    assert [seen.add(text) for text in many] == [i < 20_000 for i in range(25_000)]
