"""Texts in the order in which they are read: as they come, or shuffled with a seed.

The shuffle keeps a buffer of so many texts; each new one takes the place of one drawn at random, which is given; what
is left at the end is permuted. A corpus that fits into the buffer comes in a uniformly random order; of a larger one,
no text is given more than a buffer's length before its place.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from sae.core.random import numpy_generator


class Text(NamedTuple):
    """A text and the id that texts of one origin share, which decides the split (None: the text itself does)."""

    text: str
    group: str | None = None


class Corpus:
    """Texts to read once.

    Args:
        texts: in their own order.
        distinct: drop texts that were read before.
        buffer: texts in the shuffle buffer; 0 keeps the order.
        seed: of the shuffle.
    """

    def __init__(self, texts: Iterable[Text], distinct: bool = True, buffer: int = 0, seed: int = 0) -> None:
        self.distinct, self.buffer, self.seed = distinct, buffer, seed
        self.whole_in_buffer = False
        """Whether the buffer held all texts, so that every order was equally likely; known once the first is read."""
        self._texts = texts

    def __iter__(self) -> Iterator[Text]:
        texts = iter(self._texts)
        if self.buffer == 0:
            yield from texts
            return
        random = numpy_generator(self.seed, "corpus")
        waiting = list(islice(texts, self.buffer))
        following = next(texts, None)
        self.whole_in_buffer = following is None
        while following is not None:
            place = int(random.integers(len(waiting)))
            yield waiting[place]
            waiting[place] = following
            following = next(texts, None)
        for place in random.permutation(len(waiting)):
            yield waiting[place]


class Seen:
    """The texts met so far, as 16 bytes of hash each (about 100 bytes of memory)."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, text: str) -> bool:
        """Notes a text; whether it is new."""
        n = len(self._digests)
        self._digests.add(hashlib.blake2b(text.encode(), digest_size=16).digest())
        return len(self._digests) > n
