"""The knobs of a known dictionary, and its named sizes.

`SHAPES` names the published benchmark's (Chanin and Garriga-Alonso 2026, arXiv:2602.14687) and two for a processor.
"""

import math

from pydantic import Field, PositiveInt, model_validator

from sae.core.config import Strict
from sae.core.errors import InputError


class TruthConfig(Strict):
    """A dictionary and how it is used; with its seed it names every bit of the data."""

    d: PositiveInt
    """Width of the activations."""
    n_features: PositiveInt
    """Number of true features; the first are the roots of the trees, then their children level by level, then those
    that stand alone."""
    zipf: float = Field(default=0.5, ge=0)
    """Exponent by which the frequency asked for falls with rank, from `highest` to `lowest`."""
    highest: float = Field(default=0.4, gt=0, lt=1)
    """Frequency of the first feature."""
    lowest: float = Field(default=5e-4, gt=0, lt=1)
    """Frequency of the last feature."""
    n_trees: int = Field(default=0, ge=0)
    """Trees of features: a child is active only where its parent is, and at most one child of a parent."""
    depth: int = Field(default=3, ge=1)
    """Levels below a root."""
    branching: int = Field(default=4, ge=1)
    """Children of a parent."""
    family_share: float = Field(default=0.8, gt=0, le=1)
    """Largest share of a parent's rows in which one of its children is active. At 1 some parents are never alone; a
    dictionary then does better without their direction."""
    correlation_rank: int = Field(default=0, ge=0)
    """Common causes of the features that have no parent; 0: they are independent."""
    correlation_scale: float = Field(default=0.1, ge=0)
    """Standard deviation of the weight of a cause for a feature."""
    sizes: tuple[float, float] = (5.0, 4.0)
    """Mean activation of the first and of the last feature, linear in between."""
    size_spread: float = Field(default=0.5, ge=0)
    """A feature's activations vary by |s|, s from a normal distribution with this mean and standard deviation."""
    max_cosine: float | None = Field(default=None, gt=0, lt=1)
    """Superposition: the largest |cosine| between two directions, to which they are moved; left out: random ones."""
    offset: float = Field(default=0.0, ge=0)
    """Length of a vector that every activation has besides."""
    noise: float = Field(default=0.0, ge=0)
    """Standard deviation of the noise in every dimension."""
    seed: int = 0
    """Of the dictionary and of the data."""

    @model_validator(mode="after")
    def _fits(self) -> "TruthConfig":
        if self.lowest > self.highest:
            raise InputError(f"lowest {self.lowest} is above highest {self.highest}")
        if self.in_trees > self.n_features:
            raise InputError(
                f"{self.n_trees} trees of depth {self.depth} and branching {self.branching} have {self.in_trees} "
                f"features, more than n_features {self.n_features}"
            )
        if min(self.sizes) <= 0:
            raise InputError(f"sizes must be positive, got {list(self.sizes)}")
        if self.max_cosine is not None and self.max_cosine < self.welch:
            raise InputError(
                f"max_cosine {self.max_cosine} is out of reach: of {self.n_features} directions in {self.d} dimensions "
                f"two have at least {self.welch:.3f} (Welch 1974)"
            )
        return self

    @property
    def in_trees(self) -> int:
        """Features that belong to a tree."""
        return self.n_trees * sum(self.branching**level for level in range(self.depth + 1))

    @property
    def welch(self) -> float:
        """The least that the largest |cosine| of so many directions can be."""
        n, d = self.n_features, self.d
        return math.sqrt((n - d) / (d * (n - 1))) if n > d else 0.0


_SIZES = {
    "16384-in-768": TruthConfig(d=768, n_features=16_384, n_trees=128, correlation_rank=25, family_share=0.975),
    "2048-in-256": TruthConfig(d=256, n_features=2_048, n_trees=16, correlation_rank=25, lowest=2e-3),
    "1024-in-128": TruthConfig(d=128, n_features=1_024, n_trees=8, correlation_rank=25, lowest=2e-3),
}
SHAPES = tuple(_SIZES)


def shape(name: str, seed: int = 0) -> TruthConfig:
    """A named size.

    "16384-in-768" is the published one; siblings leave their parents alone in 2.5 % of its rows, which gives a mean l0
    of 34.0 for the published "about 34". The others have the same share of features in trees, but rare features four
    times as often and parents alone in a fifth of their rows, since a processor sees a million rows, not hundreds.

    Raises:
        InputError: no such size.
    """
    if name not in _SIZES:
        raise InputError(f"no synthetic shape {name!r}; there are {', '.join(SHAPES)}")
    return _SIZES[name].model_copy(update={"seed": seed})
