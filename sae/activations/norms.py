"""How long rows are: by position, by token, and what rows of each length have in common.

1. A norm falls into one of 2,048 bins, 32 to the octave (2.2 % wide) from 2⁻³² to 2³²; shorter ones into the first,
   longer ones into the last. Each range of positions (0, 1, 2, 3, 4–7, 8–15, …) has its own histogram.
2. Each octave of norms has the sum of its rows, so that the mean of the rows up to any octave is known afterwards,
   though nobody knows what is ordinary before all rows have been seen.
3. Each token has its number of rows, the sum of their norms and that of their squares.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float64, Int, Int32
from torch import Tensor

PER_OCTAVE = 32
LOWEST = -32
N_OCTAVES = 64
N_BINS = N_OCTAVES * PER_OCTAVE
N_RANGES = 33


def range_of(positions: Int[np.ndarray, "row"]) -> Int[np.ndarray, "row"]:
    """The range of each position: 0, 1, 2, 3, then one for each power of two."""
    return np.where(positions < 4, positions, np.frexp(np.maximum(positions, 1))[1] + 1)


def ends_of(index: int) -> tuple[int, int]:
    """First and last position of a range."""
    return (index, index) if index < 4 else (1 << (index - 2), (1 << (index - 1)) - 1)


def edges() -> Float64[np.ndarray, "edge"]:
    """The ends of the bins."""
    return 2.0 ** (LOWEST + np.arange(N_BINS + 1) / PER_OCTAVE)


class Norms:
    """Sums over the norms of rows."""

    def __init__(self, d: int, n_vocabulary: int) -> None:
        self.histogram = np.zeros((N_RANGES, N_BINS), np.int64)
        """Rows by range of positions and bin."""
        self.squares = np.zeros(N_BINS)
        """Σ‖x‖² of the rows in a bin."""
        self.octaves = torch.zeros(N_OCTAVES, d, dtype=torch.float64)
        """Σx of the rows in an octave."""
        self.token_rows = np.zeros(n_vocabulary, np.int64)
        self.token_norms = np.zeros(n_vocabulary)
        """Σ‖x‖ by token."""
        self.token_squares = np.zeros(n_vocabulary)
        """Σ‖x‖² by token."""

    def update(
        self, squares: Float64[np.ndarray, "row"], positions: Int[np.ndarray, "row"], ids: Int32[np.ndarray, "row"]
    ) -> None:
        """Adds rows by their squared norms; the caller adds the rows themselves to `octaves`."""
        with np.errstate(divide="ignore"):
            place = np.floor((np.log2(squares) / 2 - LOWEST) * PER_OCTAVE)
        bins = np.clip(place, 0, N_BINS - 1).astype(np.int64)
        np.add.at(self.histogram.reshape(-1), range_of(positions) * N_BINS + bins, 1)
        np.add.at(self.squares, bins, squares)
        np.add.at(self.token_rows, ids, 1)
        np.add.at(self.token_norms, ids, np.sqrt(squares))
        np.add.at(self.token_squares, ids, squares)

    def merge(self, other: "Norms") -> None:
        """Adds everything that `other` has seen."""
        for name in _ARRAYS:
            getattr(self, name)[:] += getattr(other, name)
        self.octaves += other.octaves

    def tensors(self) -> dict[str, Tensor]:
        """All sums, for a file."""
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in _ARRAYS}
        return arrays | {"octaves": self.octaves.clone()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The exact inverse of `tensors`."""
        for name in _ARRAYS:
            getattr(self, name)[:] = tensors[name].numpy()
        self.octaves.copy_(tensors["octaves"])


_ARRAYS = ("histogram", "squares", "token_rows", "token_norms", "token_squares")
