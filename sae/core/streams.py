"""Running statistics as sums with counts: merging parts equals computing the whole.

Sums are kept in float64, so that batches, shards and ranks add up to the same number.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError


class Moments:
    """Mean and variance per dimension."""

    def __init__(self, d: int) -> None:
        self.count = 0
        self.sum = torch.zeros(d, dtype=torch.float64)
        self.sum_squares = torch.zeros(d, dtype=torch.float64)

    def update(self, x: Float[Tensor, "token d"]) -> None:
        """Adds a batch of tokens."""
        x = x.double()
        self.count += len(x)
        self.sum += x.sum(0)
        self.sum_squares += x.square().sum(0)

    def merge(self, other: "Moments") -> None:
        """Adds everything that `other` has seen."""
        self.count += other.count
        self.sum += other.sum
        self.sum_squares += other.sum_squares

    @property
    def mean(self) -> Float[Tensor, "d"]:
        self._not_empty()
        return self.sum / self.count

    @property
    def variance(self) -> Float[Tensor, "d"]:
        """Population variance per dimension."""
        return (self.sum_squares / self.count - self.mean.square()).clamp_min(0)

    @property
    def total_variance(self) -> float:
        """E‖x − x̄‖²: the sum of the variances."""
        return float(self.variance.sum())

    def _not_empty(self) -> None:
        if self.count == 0:
            raise InputError("no rows: mean and variance are undefined")


class Covariance:
    """Mean and covariance matrix."""

    def __init__(self, d: int) -> None:
        self.count = 0
        self.sum = torch.zeros(d, dtype=torch.float64)
        self.sum_products = torch.zeros(d, d, dtype=torch.float64)

    def update(self, x: Float[Tensor, "token d"]) -> None:
        """Adds a batch of tokens."""
        x = x.double()
        self.count += len(x)
        self.sum += x.sum(0)
        self.sum_products += x.T @ x

    def merge(self, other: "Covariance") -> None:
        """Adds everything that `other` has seen."""
        self.count += other.count
        self.sum += other.sum
        self.sum_products += other.sum_products

    @property
    def mean(self) -> Float[Tensor, "d"]:
        return self.sum / self.count

    @property
    def matrix(self) -> Float[Tensor, "d d"]:
        """Population covariance."""
        return self.sum_products / self.count - torch.outer(self.mean, self.mean)
