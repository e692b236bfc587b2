"""Texts to documents of tokens, documents to pieces that a model can read.

1. A text that holds nothing, or that was read before, gives no document; both are counted.
2. A document is one text in tokens, after the tokens that begin it (BOS once, see `sae.lm.tokens`); a text that brings
   them along, as chat templates do, gets them only once.
3. A document is cut from its own first token into pieces of one length, the last shorter. So the pieces follow from
   the document alone, whatever is read before or beside it. Positions go on from piece to piece.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from sae.core.splits import Fractions, Split, split_of
from sae.lm.corpus import Corpus, Seen, Text

_TEXTS_PER_CALL = 256
_CHARACTERS_PER_CALL = 1 << 22


@dataclass(frozen=True, eq=False)
class Document:
    """A text in tokens."""

    index: int
    """Number among the documents, from 0."""
    ids: Int32[np.ndarray, "token"]
    """Token ids, those before the text (BOS) included."""
    split: Split
    source: int
    """Number of its text among those that were read, from 0."""

    def pieces(self, length: int) -> Iterator["Piece"]:
        """The document cut from its first token into pieces of `length` tokens, the last shorter."""
        for start in range(0, len(self.ids), length):
            yield Piece(self.index, start, self.ids[start : start + length])


class Piece(NamedTuple):
    """Consecutive tokens of one document, read by the model at once."""

    document: int
    """`Document.index`."""
    start: int
    """Position in the document of its first token."""
    ids: Int32[np.ndarray, "token"]


@dataclass
class TextCounts:
    """What became of the texts so far."""

    n_texts: int = 0
    """Texts read."""
    n_empty: int = 0
    """Of these, such that hold no text."""
    n_duplicates: int = 0
    """Of these, such that equal one before."""
    n_documents: int = 0
    n_tokens: int = 0
    """Tokens of all documents, those before a text included."""


class Documents:
    """The documents of a corpus, in the order of its texts; `counts` grows as they are taken.

    Args:
        tokenizer: a fast tokenizer of Hugging Face.
        corpus: texts to read.
        prefix: token ids before every document.
        fractions: shares of the splits.
        max_tokens: stop after this many tokens; the last document is cut to fit.
    """

    def __init__(
        self,
        tokenizer: Any,
        corpus: Corpus,
        prefix: tuple[int, ...] = (),
        fractions: Fractions | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.counts = TextCounts()
        self._tokenizer, self._corpus, self._prefix = tokenizer, corpus, list(prefix)
        self._fractions = Fractions() if fractions is None else fractions
        self._max_tokens = max_tokens
        self._seen = Seen()

    def __iter__(self) -> Iterator[Document]:
        counts = self.counts
        for texts in _calls(self._corpus):
            for text, ids in zip(texts, self._encoded(texts), strict=True):
                if self._left() <= len(self._prefix):
                    return
                counts.n_texts += 1
                if ids is None:
                    counts.n_duplicates += 1
                elif len(ids) <= len(self._prefix):
                    counts.n_empty += 1
                else:
                    yield self._document(text, ids)

    def _left(self) -> int:
        return (sys.maxsize if self._max_tokens is None else self._max_tokens) - self.counts.n_tokens

    def _document(self, text: Text, ids: list[int]) -> Document:
        counts = self.counts
        kept = np.array(ids[: self._left()], dtype=np.int32)
        split = split_of(text.group or text.text, self._fractions)
        document = Document(counts.n_documents, kept, split, counts.n_texts - 1)
        counts.n_documents += 1
        counts.n_tokens += len(kept)
        return document

    def _encoded(self, texts: Sequence[Text]) -> list[list[int] | None]:
        """Tokens of each text, the prefix included; none where it holds nothing, None where it was read before."""
        found: list[list[int] | None] = [[] for _ in texts]
        new = []
        for number, (text, _) in enumerate(texts):
            if not text.strip():
                continue
            if self._corpus.distinct and not self._seen.add(text):
                found[number] = None
            else:
                new.append(number)
        if new:
            several = [texts[number].text for number in new]
            encoded = self._tokenizer(several, add_special_tokens=False, verbose=False)["input_ids"]
            for number, ids in zip(new, encoded, strict=True):
                found[number] = ids if ids[: len(self._prefix)] == self._prefix else self._prefix + ids
        return found


def _calls(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Texts in lists for one call of the tokenizer, neither too many nor too long."""
    several: list[Text] = []
    n_characters = 0
    for text in texts:
        several.append(text)
        n_characters += len(text.text)
        if len(several) == _TEXTS_PER_CALL or n_characters >= _CHARACTERS_PER_CALL:
            yield several
            several, n_characters = [], 0
    if several:
        yield several
