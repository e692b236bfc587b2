"""Texts in the order in which they are read: as they come, or shuffled with a seed.

The shuffle keeps a buffer of so many texts; each new one takes the place of one drawn at random, which is given; what
is left at the end is permuted. A corpus that fits into the buffer comes in a uniformly random order; of a larger one,
no text is given more than a buffer's length before its place.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from sae.core.random import numpy_generator

_LEAST_SLOTS = 1 << 12


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
    """The texts met so far, as 8 bytes of hash each, in a table that is at most half full: 16 to 32 bytes of memory.

    Among n texts one is taken for another with a chance of n² / 2⁶⁵: 3 in 10,000 for a hundred millions of them.
    """

    def __init__(self) -> None:
        self._keys = array("Q", bytes(8 * _LEAST_SLOTS))
        self._n = 0

    def add(self, text: str) -> bool:
        """Notes a text; whether it is new."""
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return self._insert(int.from_bytes(digest, "little") or 1)  # 0 is an empty slot

    def _insert(self, key: int) -> bool:
        keys, last = self._keys, len(self._keys) - 1
        slot = key & last
        while keys[slot]:
            if keys[slot] == key:
                return False
            slot = (slot + 1) & last
        keys[slot] = key
        self._n += 1
        if 2 * self._n > len(keys):
            self._grow()
        return True

    def _grow(self) -> None:
        before = self._keys
        self._keys, self._n = array("Q", bytes(16 * len(before))), 0
        for key in filter(None, before):
            self._insert(key)
