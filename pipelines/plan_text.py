"""How much text there is and what it costs to read, from the first of it.

Texts are drawn and tokenised as a harvest would, for a while or to their end. Where they end, tokens and documents are
counted; else the text is taken to last, as far as the bytes of local files allow.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.config import TextConfig
from sae.core.splits import SPLITS, Fractions, Split, split_of
from sae.lm.corpus import Corpus, Text
from sae.lm.documents import Documents

_KEPT_CHARACTERS = 16_000_000
_PLAIN = (".jsonl", ".txt", ".csv")
_TRIES = 10_000


@dataclass
class Drawn:
    """What was drawn."""

    texts: list[Text] = field(default_factory=list)
    """The first ones."""
    seconds_to_first: float = 0.0
    """Until the first text came (a shuffle buffer is filled)."""
    seconds_drawing: float = 0.0
    """Reading all others, without tokenising."""
    seconds_tokenising: float = 0.0
    n_tokens: int = 0
    n_documents: int = 0
    n_bytes: int = 0
    """Of text, as UTF-8."""
    ended: bool = False
    """Whether that was all: the text ended, or what was asked for was reached."""


def draw(tokenizer: Any, corpus: Corpus, prefix: tuple[int, ...], max_tokens: int, seconds: float) -> Drawn:
    """Draws and tokenises for so many seconds."""
    drawn = Drawn()
    documents = Documents(tokenizer, Corpus(_noted(corpus, drawn), corpus.distinct), prefix, None, max_tokens)
    start = time.perf_counter()
    for _ in documents:
        if time.perf_counter() - start - drawn.seconds_to_first > seconds:
            break
    else:
        drawn.ended = True
    passed = time.perf_counter() - start
    drawn.n_tokens, drawn.n_documents = documents.counts.n_tokens, documents.counts.n_documents
    drawn.seconds_tokenising = max(0.0, passed - drawn.seconds_to_first - drawn.seconds_drawing)
    return drawn


def _noted(corpus: Corpus, drawn: Drawn) -> Iterator[Text]:
    """The same texts, timed and kept."""
    texts = iter(corpus)
    n_characters = 0
    for number in itertools.count():
        start = time.perf_counter()
        text = next(texts, None)
        passed = time.perf_counter() - start
        if number:
            drawn.seconds_drawing += passed
        else:
            drawn.seconds_to_first = passed
        if text is None:
            return
        drawn.n_bytes += len(text.text.encode())
        if n_characters < _KEPT_CHARACTERS:
            drawn.texts.append(text)
            n_characters += len(text.text)
        yield text


def most_tokens(text: TextConfig, drawn: Drawn) -> int:
    """Tokens that will be read: those counted where the text ended, else `max_tokens` or what its files can hold."""
    if drawn.ended:
        return drawn.n_tokens
    path = Path(text.source)
    files = [path] if path.is_file() else list(path.rglob("*")) if path.is_absolute() else []
    if not files or any(file.suffix not in _PLAIN for file in files if file.is_file()):
        return text.max_tokens
    n_bytes = sum(file.stat().st_size for file in files if file.is_file())
    return min(text.max_tokens, round(n_bytes * drawn.n_tokens / max(1, drawn.n_bytes)))


def spread(texts: list[Text], longest: int, fractions: Fractions) -> list[Text]:
    """The same texts, cut to at most `longest` characters, their groups such that every split gets some at once.

    A small sample of long documents would leave a split empty, which a harvest refuses.
    """
    pieces = [text.text[at : at + longest] for text in texts for at in range(0, max(1, len(text.text)), longest)]
    groups = {split: _group(split, fractions) for split in SPLITS}
    cycle = [*SPLITS, *["train"] * 17]
    return [Text(piece, groups[cycle[number % len(cycle)]]) for number, piece in enumerate(pieces)]


def _group(split: Split, fractions: Fractions) -> str:
    """A group that falls into a split."""
    names = (f"plan {number}" for number in range(_TRIES))
    return next((name for name in names if split_of(name, fractions) == split), "plan")
