"""What is summed over the rows of one site while they are written, for the moments and the health of the harvest.

Sums with counts: merging those of two parts equals computing the whole.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from sae.core.streams import Moments


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

    def update(
        self, x: Float32[Tensor, "row d"], positions: Int32[np.ndarray, "row"], ids: Int32[np.ndarray, "row"]
    ) -> None:
        """Adds rows, best 1,024 at a time.

        Args:
            x: as stored.
            positions: in the document.
            ids: of the tokens.
        """
        self.moments.update(x)

    def merge(self, other: "SiteSums") -> None:
        """Adds everything that `other` has seen."""
        self.moments.merge(other.moments)

    def tensors(self) -> dict[str, Tensor]:
        """All sums, for a file."""
        return {
            "shape": torch.tensor([self.d, self.n_vocabulary, self.piece]),
            "count": torch.tensor(self.moments.count),
            "sum": self.moments.sum.clone(),
            "sum_squares": self.moments.sum_squares.clone(),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "SiteSums":
        """The exact inverse of `tensors`."""
        sums = cls(*(int(n) for n in tensors["shape"]))
        sums.moments.count = int(tensors["count"])
        sums.moments.sum = tensors["sum"].clone()
        sums.moments.sum_squares = tensors["sum_squares"].clone()
        return sums
