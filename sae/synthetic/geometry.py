"""How features share dimensions.

    D_i = ‖W_i‖² / Σ_j (Ŵ_i · W_j)²        the dimension that feature i has: 1 alone, ½ in a pair of opposites
    D*  = n_hidden / ‖W‖_F²                 dimensions per feature, of a whole model

Features that are represented (‖W_i‖ above a half) and not orthogonal belong together; a group of n of them in k
dimensions is a uniform polytope where each has k / n: a digon 1/2, a triangle 2/3, a tetrahedron 3/4, a pentagon 2/5, a
square antiprism 3/8. Elhage et al. 2022, "Toy models of superposition".
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

REPRESENTED = 0.5
_TOGETHER = 0.2
"""|cosine| above which two features share dimensions."""
_FLAT = 0.3
"""Singular value, of the largest, above which a direction counts as a dimension of a group."""
_NAMES = {
    (1, 1): "alone",
    (2, 1): "digon",
    (3, 2): "triangle",
    (4, 3): "tetrahedron",
    (5, 2): "pentagon",
    (8, 3): "square antiprism",
}


class Group(NamedTuple):
    """Features that share dimensions with one another."""

    features: tuple[int, ...]
    n_dimensions: int

    @property
    def name(self) -> str:
        """Of the polytope, or "n in k"."""
        sizes = (len(self.features), self.n_dimensions)
        return _NAMES.get(sizes, f"{sizes[0]} in {sizes[1]}")


def dimensionality(W: Float[Tensor, "*instance hidden feature"]) -> Float[Tensor, "*instance feature"]:
    """D_i of every feature; 0 for one that is not there."""
    length = W.norm(dim=-2)
    unit = W / length.clamp(min=1e-12)[..., None, :]
    shared = (unit.mT @ W).square().sum(-1)
    return torch.where(length > 1e-6, length.square() / shared.clamp(min=1e-12), 0.0)


def dimensions_per_feature(W: Float[Tensor, "*instance hidden feature"]) -> Float[Tensor, "*instance"]:
    """D* of every model."""
    return W.shape[-2] / W.square().sum((-2, -1))


def represented(W: Float[Tensor, "*instance hidden feature"]) -> Tensor:
    """Which features are longer than a half."""
    return W.norm(dim=-2) > REPRESENTED


def groups(W: Float[Tensor, "hidden feature"]) -> list[Group]:
    """The represented features of one model, by what they share."""
    left = set(represented(W).nonzero().flatten().tolist())
    unit = W / W.norm(dim=0).clamp(min=1e-12)
    near = (unit.T @ unit).abs() > _TOGETHER
    found = []
    while left:
        group, edge = set(), {min(left)}
        while edge:
            group |= edge
            edge = {j for i in edge for j in left if bool(near[i, j])} - group
        left -= group
        members = sorted(group)
        singular = torch.linalg.svdvals(W[:, members])
        found.append(Group(tuple(members), int((singular > _FLAT * singular[0]).sum())))
    return found
