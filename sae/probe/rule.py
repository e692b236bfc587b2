"""A fitted probe: every probe here, once fitted, is the same thing, a linear rule over some columns.

score(x) = Σ_j w_j x_j + b, and the rule says "target" where the score is above zero. A logistic probe uses every
column of the residual stream, a sparse probe a few latents, the best single latent one column with weight ±1.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Fold(NamedTuple):
    """What a fitter may see: train to fit on, validation to choose on."""

    x_train: Float[np.ndarray, "train column"]
    y_train: Bool[np.ndarray, "train"]
    x_validation: Float[np.ndarray, "validation column"]
    y_validation: Bool[np.ndarray, "validation"]


@dataclass(frozen=True)
class LinearRule:
    """A fitted probe."""

    columns: Int[np.ndarray, "used"]
    """The columns that it reads."""
    weight: Float[np.ndarray, "used"]
    """Their weights, in units of the columns."""
    bias: float

    def score(self, x: Float[np.ndarray, "text column"]) -> Float[np.ndarray, "text"]:
        """Above zero where the rule says that a text has the target."""
        return x[:, self.columns].astype(np.float64) @ self.weight + self.bias
