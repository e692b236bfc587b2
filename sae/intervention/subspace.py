"""Operations on the coordinates along a few directions; the rest of x stays.

With V [k, d] orthonormal rows that span the directions:

    interchange   x + (s − x) VᵀV             x takes the source's coordinates
    project_out   x + (m − x) VᵀV             x takes the mean's, or none with m = 0
    multiply      x + (f − 1)(x − c) VᵀV      coordinates about a centre c are multiplied by f

What one site loses, later blocks can write again: see `directional_ablation` for the edits that remove a direction from
the whole model.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.intervention.direction import Direction
from sae.intervention.lookup import check_width, place
from sae.intervention.positions import Everywhere, Positions, selected, where
from sae.intervention.whole import check_number, check_vectors, vectors_in_words
from sae.lm.hooks import Context


@dataclass(frozen=True, eq=False)
class Interchange:
    """x takes the source's coordinates along the directions."""

    directions: Float[Tensor, "k d"]
    source: Float[Tensor, "*rows width"]
    positions: Positions = field(default_factory=Everywhere)

    def __post_init__(self) -> None:
        _check_widths(self.directions, self.source)
        assert self.basis.ndim == 2

    @cached_property
    def basis(self) -> Float[Tensor, "k d"]:
        """Orthonormal rows that span the directions."""
        return orthonormal(self.directions)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        placed = place(self.source, x, context)
        rows = self.basis.to(x)
        y = x + (placed.values - x) @ rows.T @ rows
        y = y if placed.inside is None else where(placed.inside, y, x, context)
        return selected(self.positions, context, x, y)

    def __str__(self) -> str:
        source = vectors_in_words(self.source)
        return f"interchange the coordinates along {_directions(self.directions)} with {source} {self.positions}"


@dataclass(frozen=True, eq=False)
class ProjectOut:
    """x takes the mean's coordinates along the directions: at this site, and there alone."""

    directions: Float[Tensor, "k d"]
    mean: Float[Tensor, "width"]
    positions: Positions = field(default_factory=Everywhere)

    def __post_init__(self) -> None:
        _check_widths(self.directions, self.mean)
        assert self.basis.ndim == 2

    @cached_property
    def basis(self) -> Float[Tensor, "k d"]:
        """Orthonormal rows that span the directions."""
        return orthonormal(self.directions)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        check_width(len(self.mean), x)
        rows = self.basis.to(x)
        return selected(self.positions, context, x, x + (self.mean.to(x) - x) @ rows.T @ rows)

    def __str__(self) -> str:
        to = "" if not self.mean.any() else f" to the coordinates of {vectors_in_words(self.mean)}"
        return f"project out {_directions(self.directions)}{to} {self.positions}"


@dataclass(frozen=True, eq=False)
class Multiply:
    """Coordinates along the directions, about a centre, are multiplied by a factor."""

    directions: Float[Tensor, "k d"]
    factor: float
    centre: Float[Tensor, "width"]
    positions: Positions = field(default_factory=Everywhere)

    def __post_init__(self) -> None:
        check_number(self.factor, "factor")
        _check_widths(self.directions, self.centre)
        assert self.basis.ndim == 2

    @cached_property
    def basis(self) -> Float[Tensor, "k d"]:
        """Orthonormal rows that span the directions."""
        return orthonormal(self.directions)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        check_width(len(self.centre), x)
        rows = self.basis.to(x)
        change = (self.factor - 1) * ((x - self.centre.to(x)) @ rows.T @ rows)
        return selected(self.positions, context, x, x + change)

    def __str__(self) -> str:
        about = "" if not self.centre.any() else f" about {vectors_in_words(self.centre)}"
        return (
            f"multiply the coordinates along {_directions(self.directions)}{about} by {self.factor:g} {self.positions}"
        )


def rows_of(directions: Direction | Float[Tensor, "*k d"]) -> Float[Tensor, "*k d"]:
    """Directions as rows; a `Direction` is one of them, whatever its unit."""
    return directions.vector[None] if isinstance(directions, Direction) else directions


def orthonormal(directions: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Orthonormal rows that span the same, in float32 at least: rounded rows would leave something of x behind.

    Raises:
        InputError: the rows are linearly dependent.
    """
    u, scales, rows = torch.linalg.svd(directions.float(), full_matrices=False)
    if len(directions) > directions.shape[1] or scales[-1] <= 1e-6 * scales[0]:
        raise InputError(f"the {len(directions)} directions are zero or linearly dependent")
    return (u @ rows).to(torch.promote_types(directions.dtype, torch.float32))


def _check_widths(directions: Float[Tensor, "*k d"], other: Float[Tensor, "*rows width"]) -> None:
    if directions.ndim != 2:
        raise InputError(f"directions of shape {list(directions.shape)}; give [k, d]")
    check_vectors(directions)
    check_vectors(other)
    if directions.shape[1] != other.shape[-1]:
        raise InputError(f"directions of width {directions.shape[1]} and a value of width {other.shape[-1]}")


def _directions(directions: Float[Tensor, "k d"]) -> str:
    k, d = directions.shape
    return f"{k} direction{'s' if k > 1 else ''} of width {d}"
