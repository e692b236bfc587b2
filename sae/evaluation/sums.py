"""Everything the scores are made of, as sums per document.

A score of any weighting of the documents, all of them once or a bootstrap resample, is a function of weighted sums; so
one pass over the text gives every value and every interval, and the same weights pair the contenders.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sae.evaluation.usage import LatentUsage

Documents = Int[Tensor, "token"]


@dataclass(frozen=True)
class TextSums:
    """Sums that do not depend on the contender."""

    n_tokens: Float[np.ndarray, "document"]
    """Tokens that a contender reconstructs."""
    squares: Float[np.ndarray, "document"]
    """Σ‖x − c‖² for a fixed centre c."""
    sums: Float[np.ndarray, "document d"]
    """Σ(x − c)."""
    norms: Float[np.ndarray, "document"]
    """Σ‖x‖."""
    n_targets: Float[np.ndarray, "document"]
    """Next tokens that are predicted."""
    ce: Float[np.ndarray, "document"]
    """Cross-entropy of the model as it is, nats."""


@dataclass(frozen=True)
class ContenderSums:
    """Sums of one contender."""

    squared_error: Float[np.ndarray, "document"]
    """Σ‖x − y‖²."""
    cosines: Float[np.ndarray, "document"]
    """Σ cos(x, y), 0 where one of them is zero."""
    norms: Float[np.ndarray, "document"]
    """Σ‖y‖."""
    n_active: Float[np.ndarray, "document"]
    """Active latents."""
    n_active_squared: Float[np.ndarray, "document"]
    """The sum over tokens of the squared number of active latents."""
    ce: Float[np.ndarray, "document"]
    """Cross-entropy of the model with the contender spliced in, nats."""
    kl: Float[np.ndarray, "document"]
    """KL(model ‖ spliced), nats."""
    usage: LatentUsage
    """Where its latents fire and how strongly; of no latents if it is not a dictionary."""


SUMS = ("squared_error", "cosines", "norms", "n_active", "n_active_squared", "ce", "kl")
"""The fields of `ContenderSums` that are sums per document."""


class Column:
    """A running sum per document."""

    def __init__(self, n_documents: int, *shape: int) -> None:
        self._sum = torch.zeros(n_documents, *shape, dtype=torch.float64)

    def add(self, documents: Documents, values: Shaped[Tensor, "token *d"]) -> None:
        """Adds a value (or vector) per token to the token's document."""
        self._sum.index_add_(0, documents.cpu(), values.double().cpu())

    def numpy(self) -> Float[np.ndarray, "document *d"]:
        """The sums so far."""
        return self._sum.numpy()
