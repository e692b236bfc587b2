"""In which documents a latent fires, kept small: exactly for rare latents, as "more than `KEPT`" for the others.

A resample of n documents draws each of them with multinomial counts. A latent that fires in m documents is absent
from the resample with probability about e^{−m}; so only latents with few documents can die in a resample, and for
these the documents themselves are kept. For the others the error is below e^{−KEPT}, about 1e-7.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

KEPT = 16
_CELLS = 2**22
"""Largest number of gathered counts held at once."""


class FiringDocuments:
    """Per latent: the documents it fires in, up to `KEPT` + 1 of them."""

    def __init__(self, n_latents: int) -> None:
        self.n_documents = np.zeros(n_latents, dtype=np.int64)
        """Documents that each latent fires in, `KEPT` + 1 standing for any larger number."""
        self.documents = np.full((n_latents, KEPT + 1), -1, dtype=np.int64)

    def update(self, latents: Int[np.ndarray, "entry"], documents: Int[np.ndarray, "entry"]) -> None:
        """Adds active (latent, document) pairs, in any order and with repetitions."""
        rare = self.n_documents[latents] <= KEPT
        # One number a pair: sorting numbers is far faster than sorting columns.
        pairs = np.unique((latents[rare].astype(np.int64) << 32) | documents[rare].astype(np.int64))
        latent, document = pairs >> 32, pairs & (2**32 - 1)
        new = ~(self.documents[latent] == document[:, None]).any(1)
        latent, document = latent[new], document[new]
        _, starts, sizes = np.unique(latent, return_index=True, return_counts=True)
        place = self.n_documents[latent] + np.arange(len(latent)) - np.repeat(starts, sizes)
        kept = place <= KEPT
        self.documents[latent[kept], place[kept]] = document[kept]
        np.add.at(self.n_documents, latent[kept], 1)

    def merge(self, other: "FiringDocuments") -> None:
        """Adds everything that `other` has seen."""
        latent, slot = np.nonzero(other.documents >= 0)
        self.update(latent, other.documents[latent, slot])

    @property
    def n_latents(self) -> int:
        return len(self.n_documents)

    @property
    def dead(self) -> Bool[np.ndarray, "latent"]:
        """Latents that fire in no document."""
        return self.n_documents == 0

    def dead_fractions(self, weights: Float[np.ndarray, "resample document"]) -> Float[np.ndarray, "resample"]:
        """Share of latents that fire in no document of each resample, before any correction.

        The bootstrap of a support statistic is biased: a resample leaves out about e^{−1} of the documents, and a
        latent that fires in one of these only counts as dead. `recentred` takes that bias out.
        """
        dead = np.full(len(weights), int(self.dead.sum()), dtype=np.int64)
        rare = self.documents[(self.n_documents > 0) & (self.n_documents <= KEPT), :KEPT]
        # A last document that is never drawn stands for the padding −1.
        drawn = np.concatenate([weights > 0, np.zeros((len(weights), 1), dtype=bool)], axis=1)
        for block in np.array_split(rare, 1 + rare.size * len(weights) // _CELLS):
            dead += (~drawn[:, block].any(-1)).sum(1)
        return dead / self.n_latents


def recentred(
    samples: Float[np.ndarray, "resample"], value: float, largest: float = 1.0
) -> Float[np.ndarray, "resample"]:
    """Resampled counts or shares shifted so that their mean is `value`, within 0 and `largest`.

    What remains is their spread: how much the share depends on which documents were read. It says nothing of
    latents that would fire in a longer text, which is why `n_tokens` stands beside every dead fraction.
    """
    return np.clip(samples - samples.mean() + value, 0, largest)
