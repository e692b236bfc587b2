"""Writing the language: random walks on the automaton that keep every choice they make.

A document has one to six sentences, each number equally likely; which one is not part of the distribution of words: a
word's nats are −log p(word | prefix, a word follows).
"""

import math
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from random import Random
from typing import NamedTuple

from sae.core.errors import InputError
from sae.microworld.automaton import START, TEXT_LEVEL, Mark, Option, StateId, state

MAX_SENTENCES = 6


class Token(NamedTuple):
    """A word of a document, with all that the generator knows of it."""

    word: str
    nats: float
    """−log of its probability given the prefix."""
    sentence: int
    mark: Mark | None
    sources: tuple[int, ...]
    """For each instance of the mark the place of the word that decided it, which may be this one."""


@dataclass(frozen=True)
class Document:
    """A text of the language: words joined by single spaces."""

    tokens: tuple[Token, ...]

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(token.word for token in self.tokens)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def nats(self) -> tuple[float, ...]:
        return tuple(token.nats for token in self.tokens)

    @cached_property
    def begins(self) -> tuple[int, ...]:
        """Where each word begins in the text, in characters."""
        ends = accumulate(len(token.word) + 1 for token in self.tokens)
        return tuple(end - len(token.word) - 1 for end, token in zip(ends, self.tokens, strict=True))


def stream(name: str, seed: int) -> Random:
    """A generator of its own for each name and seed."""
    return Random(f"microworld/{name}/{seed}")


def document(rng: Random, n_sentences: int | None = None) -> Document:
    """One document, of one to six sentences unless told how many.

    Raises:
        InputError: a text cannot have so many sentences.
    """
    if n_sentences is not None and not 1 <= n_sentences <= MAX_SENTENCES:
        raise InputError(f"a text cannot have {n_sentences} sentences; it has 1 to {MAX_SENTENCES}")
    return Document(traced(walk(rng, n_sentences or rng.randint(1, MAX_SENTENCES))))


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
        n_written += len(written.tokens)
        yield written


def traced(options: Iterable[Option]) -> tuple[Token, ...]:
    """The tokens of a walk: which word decided what every word depends on."""
    tokens: list[Token] = []
    decided: dict[str, int] = {}
    sentence = 0
    for place, (word, probability, target, mark) in enumerate(options):
        sources: tuple[int, ...] = ()
        if mark is not None:
            if mark.decides is not None:
                decided[mark.decides] = place
            sources = tuple(decided[instance] for instance in mark.instances)
        tokens.append(Token(word, -math.log(probability), sentence, mark, sources))
        if target.node == START.node:
            sentence += 1
            decided = {instance: at for instance, at in decided.items() if instance in TEXT_LEVEL}
    return tuple(tokens)


def next_words(prefix: Sequence[str]) -> dict[str, float]:
    """The exact distribution of the next word, given the visible prefix.

    Raises:
        InputError: the prefix is not of the language; names the word and those allowed in its place.
    """
    at = START
    for place, word in enumerate(prefix):
        if word not in state(at).by_word:
            raise InputError(not_there(prefix, place, at))
        at = state(at).by_word[word].target
    return {option.word: option.probability for option in state(at).options}


def not_there(words: Sequence[str], place: int, at: StateId) -> str:
    """In words, that a word cannot stand at its place, and which can."""
    before = " ".join(words[max(0, place - 4) : place])
    allowed = tuple(state(at).by_word)
    shown = ", ".join(allowed[:8]) + (f" and {len(allowed) - 8} more" if len(allowed) > 8 else "")
    word = words[place] if len(words[place]) <= 40 else f"{words[place][:40]}…"
    return f"{word!r} cannot stand at word {place} after {before!r}; there can: {shown}"


def walk(rng: Random, n_sentences: int, at: StateId = START) -> list[Option]:
    """So many sentences, from the beginning of a text or from where another walk has ended."""
    uniform = rng.random
    walked: list[Option] = []
    while n_sentences:
        here = state(at)
        option = here.options[bisect(here.cumulative, uniform()) if len(here.options) > 1 else 0]
        walked.append(option)
        at = option.target
        n_sentences -= at.node == START.node
    return walked
