"""The n strongest documents of every latent, in one pass, mergeable.

1. A document's entry for a latent is its strongest token; of equal ones the first.
2. Entries are ordered by value, then by a hash of the document, then by its number: a total order, so that the
   result depends neither on the order of the updates nor on how the documents were divided.
3. Each latent keeps the first n. An entry below the n-th kept value can never enter, and is dropped unread.

A document among the first n of the whole is among the first n of every part that holds its strongest token, as
the part's other documents are at most as strong there; so `merge(a, b)` equals the whole.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64


class Entries:
    """Active (latent, document, position, value), one per column, of equal length."""

    def __init__(
        self,
        latent: Int[np.ndarray, "entry"],
        document: Int[np.ndarray, "entry"],
        position: Int[np.ndarray, "entry"],
        value: Float[np.ndarray, "entry"],
    ) -> None:
        self.latent = latent.astype(np.int64, copy=False)
        self.document = document.astype(np.int64, copy=False)
        self.position = position.astype(np.int64, copy=False)
        self.value = value.astype(np.float32, copy=False)

    def __len__(self) -> int:
        return len(self.latent)

    def take(self, index: Int[np.ndarray, "n"] | Bool[np.ndarray, "entry"]) -> "Entries":
        """The entries at `index`."""
        return Entries(self.latent[index], self.document[index], self.position[index], self.value[index])

    def joined(self, other: "Entries") -> "Entries":
        """These entries and then the other ones."""
        return Entries(
            np.concatenate([self.latent, other.latent]),
            np.concatenate([self.document, other.document]),
            np.concatenate([self.position, other.position]),
            np.concatenate([self.value, other.value]),
        )


_NOTHING = np.zeros(0, dtype=np.int64)
NONE = Entries(_NOTHING, _NOTHING, _NOTHING, _NOTHING.astype(np.float32))


class TopExamples:
    """The `n` strongest documents of each of `n_latents` latents seen so far."""

    def __init__(self, n_latents: int, n: int) -> None:
        self.n_latents, self.n = n_latents, n
        self.entries = NONE
        """Kept entries, ordered by latent and strength."""
        self._enters = np.full(n_latents, -np.inf, dtype=np.float32)

    def update(self, entries: Entries) -> None:
        """Adds active entries in any order."""
        entering = entries.take(entries.value >= self._enters[entries.latent])
        if self.n and len(entering):
            self._keep(_strongest(_one_per_document(self.entries.joined(entering)), self.n))

    def merge(self, other: "TopExamples") -> None:
        """Adds everything that `other` has seen."""
        self.update(other.entries)

    def _keep(self, entries: Entries) -> None:
        self.entries = entries
        ends = np.cumsum(np.bincount(entries.latent, minlength=self.n_latents))
        full = np.bincount(entries.latent, minlength=self.n_latents) == self.n
        self._enters[full] = entries.value[ends[full] - 1]


def _one_per_document(entries: Entries) -> Entries:
    order = np.lexsort((entries.position, -entries.value, entries.document, entries.latent))
    ordered = entries.take(order)
    return ordered.take(_changes(ordered.latent) | _changes(ordered.document))


def _strongest(entries: Entries, n: int) -> Entries:
    priority = hash_priority(entries.document)
    ordered = entries.take(np.lexsort((entries.document, priority, -entries.value, entries.latent)))
    first = np.flatnonzero(_changes(ordered.latent))
    rank = np.arange(len(ordered)) - np.repeat(first, np.diff(np.append(first, len(ordered))))
    return ordered.take(rank < n)


def _changes(column: Int[np.ndarray, "entry"]) -> Bool[np.ndarray, "entry"]:
    return np.concatenate([[True], column[1:] != column[:-1]])


def hash_priority(numbers: Int[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """A fixed pseudo-random rank per number: the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
