"""Operations on the whole activation.

    add        x + s·v            v a direction in its units (model, standard deviation or norm), or vectors
    replace    v                  patching, and ablation to zero or to a mean
    affine     x Aᵀ + b           conceptors, optimal transport between two groups of activations

Vectors are one for all, [d], one for each text, [batch, d], or one for each position of each text,
[batch, position, d] (see `lookup`).
"""

import math
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.intervention.direction import Direction
from sae.intervention.lookup import check_width, place
from sae.intervention.positions import Everywhere, Positions, selected, where
from sae.lm.hooks import Context


@dataclass(frozen=True, eq=False)
class Add:
    """x + strength · v."""

    direction: Direction | Float[Tensor, "*rows d"]
    strength: float = 1.0
    positions: Positions = field(default_factory=Everywhere)

    def __post_init__(self) -> None:
        check_number(self.strength, "strength")
        if isinstance(self.direction, Tensor):
            check_vectors(self.direction)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        direction = self.direction
        step = direction.step(self.strength) if isinstance(direction, Direction) else direction * self.strength
        placed = place(step, x, context)
        y = x + placed.values
        y = y if placed.inside is None else where(placed.inside, y, x, context)
        return selected(self.positions, context, x, y)

    def __str__(self) -> str:
        what = f"({self.direction})" if isinstance(self.direction, Direction) else vectors_in_words(self.direction)
        return f"add {self.strength:g} × {what} {self.positions}"


@dataclass(frozen=True, eq=False)
class Replace:
    """A given value in the activation's place; a number stands for a vector of it."""

    value: Float[Tensor, "*rows"]
    positions: Positions = field(default_factory=Everywhere)

    def __post_init__(self) -> None:
        if self.value.ndim:
            check_vectors(self.value)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        value = self.value if self.value.ndim else self.value.expand(x.shape[-1])
        placed = place(value, x, context)
        y = placed.values.expand_as(x)
        y = y if placed.inside is None else where(placed.inside, y, x, context)
        return selected(self.positions, context, x, y)

    def __str__(self) -> str:
        what = vectors_in_words(self.value) if self.value.ndim else f"{self.value.item():g}"
        return f"replace by {what} {self.positions}"


@dataclass(frozen=True, eq=False)
class Affine:
    """x Aᵀ + b."""

    matrix: Float[Tensor, "d_out d_in"]
    """Square."""
    bias: Float[Tensor, "d"]
    positions: Positions = field(default_factory=Everywhere)

    def __post_init__(self) -> None:
        if self.matrix.shape != (len(self.bias), len(self.bias)):
            raise InputError(f"a matrix {list(self.matrix.shape)} and a bias of width {len(self.bias)} do not fit")
        check_vectors(self.matrix)
        check_vectors(self.bias)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        check_width(len(self.bias), x)
        return selected(self.positions, context, x, x @ self.matrix.T.to(x) + self.bias.to(x))

    def __str__(self) -> str:
        d = len(self.bias)
        return f"map by a matrix {d} × {d} and add {vectors_in_words(self.bias)} {self.positions}"


def check_number(value: int | float, what: str) -> None:
    """Refuses a number that is not finite.

    Raises:
        InputError: names it.
    """
    if type(value) not in (int, float):
        raise InputError(f"{what} {value!r} is no plain number; give an int or a float, so that it can be saved")
    if not math.isfinite(value):
        raise InputError(f"{what} {value} is not finite")


def check_vectors(vectors: Float[Tensor, "*rows d"]) -> None:
    """Refuses vectors that no activation could be, at the door.

    Raises:
        InputError: a value that is not finite, or more axes than [batch, position, d].
    """
    if not 1 <= vectors.ndim <= 3 or vectors.numel() == 0:
        raise InputError(f"values of shape {list(vectors.shape)}; give [d], [batch, d] or [batch, position, d]")
    if not vectors.isfinite().all():
        raise InputError(f"values of shape {list(vectors.shape)} are not all finite")


def vectors_in_words(vectors: Float[Tensor, "*rows d"]) -> str:
    """What they are, in a few words."""
    *rows, d = vectors.shape
    if not rows:
        return "zero" if not vectors.any() else f"a vector of width {d} and norm {vectors.float().norm():.4g}"
    return f"{' × '.join(map(str, rows))} vectors of width {d}"
