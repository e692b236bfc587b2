"""Everything that is summed over the rows of one site, chunk by chunk, while they are written."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from sae.core.streams import Moments


class SiteSums:
    """Sums over rows of one site; merging parts equals summing the whole."""

    def __init__(self, d: int, n_vocabulary: int) -> None:
        self.moments = Moments(d)
        self._n_vocabulary = n_vocabulary

    def update(
        self, x: Float32[Tensor, "row d"], positions: Int32[np.ndarray, "row"], ids: Int32[np.ndarray, "row"]
    ) -> None:
        """Adds rows as they are stored, with their positions in their documents and their token ids."""
        self.moments.update(x)

    def merge(self, other: "SiteSums") -> None:
        """Adds everything that `other` has seen."""
        self.moments.merge(other.moments)

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a safetensors file."""
        counts = torch.tensor([self.moments.count, self._n_vocabulary])
        return {"counts": counts, "sum": self.moments.sum, "sum_squares": self.moments.sum_squares}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "SiteSums":
        """The sums that gave these tensors."""
        count, n_vocabulary = tensors["counts"].tolist()
        made = cls(len(tensors["sum"]), n_vocabulary)
        made.moments.count = count
        made.moments.sum, made.moments.sum_squares = tensors["sum"], tensors["sum_squares"]
        return made
