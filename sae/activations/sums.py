"""What is summed over the rows of one site while they are written, for the moments and the health of the harvest.

Sums with counts: merging those of two parts equals computing the whole.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from sae.activations.norms import LOWEST, Norms
from sae.activations.sampled import Sampled
from sae.core.streams import Moments
from sae.kernels.row_sums import RowSums


class SiteSums:
    """Everything that is summed over rows of one site."""

    def __init__(self, d: int, n_vocabulary: int, piece: int = 1 << 31) -> None:
        """
        Args:
            d: width of a row.
            n_vocabulary: token ids are below it.
            piece: most tokens that the model read of a document at once; positions are counted within them.
        """
        self.d, self.n_vocabulary, self.piece = d, n_vocabulary, piece
        self.moments = Moments(d)
        self.norms = Norms(d, n_vocabulary)
        self.sampled = Sampled(d)
        self._rows = RowSums(self.moments.sum, self.moments.sum_squares, self.norms.octaves, LOWEST)

    def update(
        self, x: Float[Tensor, "row d"], positions: Int32[np.ndarray, "row"], ids: Int32[np.ndarray, "row"]
    ) -> None:
        """Adds rows.

        Args:
            x: as stored, finite.
            positions: in the document.
            ids: of the tokens.
        """
        squares = self._rows.add(x)
        self.norms.update(squares.numpy(), positions % self.piece, ids)
        self.moments.count += len(x)
        self.sampled.update(x)

    def merge(self, other: "SiteSums") -> None:
        """Adds everything that `other` has seen."""
        self.moments.merge(other.moments)
        self.norms.merge(other.norms)
        self.sampled.merge(other.sampled)

    def tensors(self) -> dict[str, Tensor]:
        """All sums, for a file."""
        moments = {
            "shape": torch.tensor([self.d, self.n_vocabulary, self.piece]),
            "count": torch.tensor(self.moments.count),
            "sum": self.moments.sum.clone(),
            "sum_squares": self.moments.sum_squares.clone(),
        }
        return moments | self.norms.tensors() | self.sampled.tensors()

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "SiteSums":
        """The exact inverse of `tensors`."""
        sums = cls(*(int(n) for n in tensors["shape"]))
        sums.moments.count = int(tensors["count"])
        sums.moments.sum.copy_(tensors["sum"])
        sums.moments.sum_squares.copy_(tensors["sum_squares"])
        sums.norms.load(tensors)
        sums.sampled.load(tensors)
        return sums
