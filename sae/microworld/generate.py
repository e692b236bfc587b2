"""Writing and reading the language: random walks on the automaton, and the one walk that a given text took.

A document has one to six sentences, each number equally likely; which one is not part of the distribution of words: a
word's nats are −log p(word | prefix, a word follows).
"""

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple

from sae.core.errors import InputError
from sae.microworld.automaton import Mark, language
from sae.microworld.lexicon import LABELLED

MAX_SENTENCES = 6


class Marked(NamedTuple):
    """A marked word and its place in the sentence."""

    position: int
    mark: Mark


@dataclass(frozen=True)
class Sentence:
    """A sentence with all that the generator knows of it."""

    words: tuple[str, ...]
    nats: tuple[float, ...]
    """Of each word, −log of its probability given the prefix."""
    marks: tuple[Marked, ...]

    def decided(self, variable: str) -> Marked | None:
        """The word that expresses the variable."""
        return next((m for m in self.marks if m.mark.decides and m.mark.variable == variable), None)

    def followed(self, variable: str) -> Marked | None:
        """The first word that follows from the variable."""
        return next((m for m in self.marks if not m.mark.decides and m.mark.variable == variable), None)


@dataclass(frozen=True)
class Document:
    """A text of the language, its words joined by single spaces."""

    words: tuple[str, ...]
    group: str | None = None

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        return read(self.words)

    @property
    def nats(self) -> tuple[float, ...]:
        return tuple(nats for sentence in self.sentences for nats in sentence.nats)


def stream(name: str, seed: int) -> Random:
    """A generator of its own for each name and seed."""
    return Random(f"microworld/{name}/{seed}")


def sentence(rng: Random) -> Sentence:
    """One sentence."""
    (only,) = read(_walk(rng, 1))
    return only


def document(rng: Random) -> Document:
    """One document of one to six sentences."""
    return Document(_walk(rng, rng.randint(1, MAX_SENTENCES)))


def documents(seed: int, n_tokens: int, name: str = "text") -> Iterator[Document]:
    """Documents until they hold at least `n_tokens` words; the same ones for the same seed and name.

    Args:
        seed: of this stream.
        n_tokens: words in all, beginnings of texts not counted.
        name: of the stream; streams of different names are independent.
    """
    rng = stream(name, seed)
    n_written = 0
    while n_written < n_tokens:
        written = document(rng)
        n_written += len(written.words)
        yield written


def read(words: Sequence[str]) -> tuple[Sentence, ...]:
    """The sentences of a text of the language; raises InputError at the first word that cannot stand there."""
    states = language()
    sentences: list[Sentence] = []
    state, begin, nats, marks = 0, 0, [], []
    for position, word in enumerate(words):
        option = states[state].options.get(word)
        if option is None:
            raise InputError(_not_there(words, position, states[state].words))
        nats.append(-math.log(option.probability))
        if option.mark is not None:
            marks.append(Marked(position - begin, option.mark))
        state = option.target
        if state == 0:
            sentences.append(Sentence(tuple(words[begin : position + 1]), tuple(nats), tuple(marks)))
            begin, nats, marks = position + 1, [], []
    if state != 0:
        raise InputError(f"the text {' '.join(words)!r} ends in the middle of a sentence")
    return tuple(sentences)


def next_words(prefix: Sequence[str]) -> dict[str, float]:
    """The exact distribution of the next word, given the visible prefix."""
    states, state = language(), 0
    for position, word in enumerate(prefix):
        if word not in states[state].options:
            raise InputError(_not_there(prefix, position, states[state].words))
        state = states[state].options[word].target
    return {option.word: option.probability for option in states[state].options.values()}


def intervene(original: Sentence, variable: str, label: str) -> Sentence:
    """do(variable = label): the sentence with that variable's words and their consequences exchanged, no others."""
    words = list(original.words)
    for position, mark in original.marks:
        if mark.variable == variable:
            words[position] = LABELLED[mark.wordclass][label][mark.index]
    (changed,) = read(words)
    return changed


def character_offsets(words: Sequence[str]) -> list[int]:
    """Where each word begins in the words joined by single spaces."""
    return [end - len(word) - 1 for end, word in zip(accumulate(len(w) + 1 for w in words), words, strict=True)]


def _walk(rng: Random, n_sentences: int) -> tuple[str, ...]:
    states, uniform = language(), rng.random
    written: list[str] = []
    state = 0
    while n_sentences:
        _, words, cumulative, targets = states[state]
        chosen = bisect(cumulative, uniform()) if len(words) > 1 else 0
        written.append(words[chosen])
        state = targets[chosen]
        n_sentences -= not state
    return tuple(written)


def _not_there(words: Sequence[str], position: int, allowed: tuple[str, ...]) -> str:
    before = " ".join(words[max(0, position - 4) : position])
    shown = ", ".join(allowed[:8]) + (f" and {len(allowed) - 8} more" if len(allowed) > 8 else "")
    return f"{words[position]!r} cannot stand at word {position} after {before!r}; there can: {shown}"
