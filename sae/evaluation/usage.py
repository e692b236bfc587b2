"""How often and how strongly each latent fires in each document, as sums that can be weighted like all others.

1. `firing`: in which documents a latent fires at all, for the dead.
2. `counts`: on how many tokens of each document it fires, a sparse matrix, for densities.
3. `sizes`: how many of a document's active values lie in each bin of size, latents taken together, for what they cost.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from sae.evaluation.active import Active
from sae.evaluation.description import N_BINS, size_bins
from sae.evaluation.firing import FiringDocuments

_CELLS = 2**22
"""Largest number of resampled densities held at once."""


class LatentUsage:
    """What the latents of one contender do in each of `n_documents` documents.

    Args:
        lengths: of the decoder rows; activations times these do not depend on how a dictionary is scaled.
        n_documents: documents that are resampled.
    """

    def __init__(self, lengths: Float[np.ndarray, "latent"], n_documents: int) -> None:
        self._lengths, self._n_documents = lengths, n_documents
        self.firing = FiringDocuments(len(lengths))
        self.sizes = np.zeros((n_documents, N_BINS))
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def n_latents(self) -> int:
        return len(self._lengths)

    def update(self, entries: Active, documents: Int[np.ndarray, "token"]) -> None:
        """Adds the active entries of a batch, given the document of each of its tokens."""
        if not self.n_latents:
            return
        of_entry = documents[entries.tokens].astype(np.int64)
        self.firing.update(entries.latents, of_entry)
        np.add.at(self.sizes, (of_entry, size_bins(entries.values * self._lengths[entries.latents])), 1)
        self._parts.append(np.unique(of_entry * self.n_latents + entries.latents, return_counts=True))

    def merge(self, other: "LatentUsage") -> None:
        """Adds everything that `other` has seen of the same latents."""
        self.firing.merge(other.firing)
        self.sizes += other.sizes
        self._parts += other._parts

    @property
    def counts(self) -> csr_array:
        """[document, latent]: tokens of a document on which a latent fires."""
        keys = np.concatenate([np.zeros(0, dtype=np.int64), *(keys for keys, _ in self._parts)])
        counts = np.concatenate([np.zeros(0), *(counts for _, counts in self._parts)])
        # SciPy adds what lies in one place.
        places = (keys // max(1, self.n_latents), keys % max(1, self.n_latents))
        return csr_array((counts, places), shape=(self._n_documents, self.n_latents))

    def densities(
        self, weights: Float[np.ndarray, "resample document"], n_tokens: Float[np.ndarray, "document"]
    ) -> Iterator[Float[np.ndarray, "some latent"]]:
        """The share of tokens on which each latent fires, for every weighting in turn, some of them at a time."""
        by_latent = self.counts.T.tocsr()
        for block in np.array_split(weights, 1 + weights.shape[0] * self.n_latents // _CELLS):
            yield (by_latent @ block.T).T / np.maximum(block @ n_tokens, 1)[:, None]
