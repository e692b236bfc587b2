"""Principal components: the best linear reconstruction of its rank, so the dense floor for a dictionary of equal L0."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.core.streams import Covariance


@dataclass(frozen=True, eq=False)
class Pca:
    """Projection onto the first components about the mean."""

    mean: Float[Tensor, "d"]
    components: Float[Tensor, "k d"]
    """Orthonormal rows, of falling variance."""

    def __call__(self, x: Float[Tensor, "token d"]) -> Float[Tensor, "token d"]:
        """x̄ + (x − x̄) Vᵀ V."""
        return self.mean + (x - self.mean) @ self.components.T @ self.components

    def to(self, device: torch.device | str) -> "Pca":
        """The same projection on another device."""
        return Pca(self.mean.to(device), self.components.to(device))


def principal_components(covariance: Covariance, k: int) -> Pca:
    """The `k` leading eigenvectors of a covariance.

    Raises:
        InputError: no rows were seen, or `k` is not between 1 and the dimension.
    """
    d = len(covariance.sum)
    if covariance.count == 0:
        raise InputError("no rows: principal components are undefined")
    if not 1 <= k <= d:
        raise InputError(f"{k} components of {d} dimensions; there can be 1 to {d}")
    _, vectors = torch.linalg.eigh(covariance.matrix)
    return Pca(covariance.mean.float(), vectors[:, -k:].flip(1).T.float().contiguous())
