"""Everything the scores are made of, as sums per document.

A score of any weighting of the documents, all of them once or a bootstrap resample, is a ratio of weighted sums; so
one pass over the text gives every value and every interval, and the same weights pair the contenders.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sae.evaluation.firing import FiringDocuments

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
    n_targets: Float[np.ndarray, "document"]
    """Next tokens that are predicted."""
    ce: Float[np.ndarray, "document"]
    """Cross-entropy of the model as it is, nats."""


@dataclass(frozen=True)
class ContenderSums:
    """Sums of one contender."""

    squared_error: Float[np.ndarray, "document"]
    """Σ‖x − y‖²."""
    n_active: Float[np.ndarray, "document"]
    """Active latents."""
    ce: Float[np.ndarray, "document"]
    """Cross-entropy of the model with the contender spliced in, nats."""
    kl: Float[np.ndarray, "document"]
    """KL(model ‖ spliced), nats."""
    firing: FiringDocuments
    """Where its latents fire; of no latents if it is not a dictionary."""


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
