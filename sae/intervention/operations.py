"""What can be done to activations: frozen values that are called as f(x, context) by `sae.lm.editing`.

The members are in `whole`, `subspace` and `latents`, one after the other is `InOrder`; the functions here make them.
Each acts at its positions, keeps the bits of all others, says in words what it does (`str`), and is saved and loaded
as part of an `Intervention`. With settings that say "as it is" (strength 0, factor 1, a latent's own value, the
activation's own coordinates) an operation changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.dictionary import Dictionary
from sae.intervention.direction import Direction
from sae.intervention.latents import ITSELF, LatentValue, ScaleLatents, SetLatents, Splice
from sae.intervention.positions import Everywhere, Positions
from sae.intervention.subspace import Interchange, Multiply, ProjectOut, rows_of
from sae.intervention.whole import Add, Affine, Replace
from sae.lm.hooks import Context

EVERYWHERE = Everywhere()


@dataclass(frozen=True, eq=False)
class InOrder:
    """Several operations at one site: each acts on what the one before it gave."""

    operations: tuple["Operation", ...]

    def __post_init__(self) -> None:
        if not self.operations:
            raise InputError("no operation is named; name at least one")

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        for operation in self.operations:
            x = operation(x, context)
        return x

    def __str__(self) -> str:
        return "; then ".join(str(operation) for operation in self.operations)


Operation = Add | Replace | Affine | Interchange | ProjectOut | Multiply | SetLatents | ScaleLatents | Splice | InOrder
"""Everything that can be done, closed."""


def add(
    direction: Direction | Float[Tensor, "*batch d"], strength: float = 1.0, positions: Positions = EVERYWHERE
) -> Add:
    """Adds strength times a direction (in its units) or a vector (in the model's).

    Args:
        direction: a `Direction`, a vector [d], one for each text [batch, d], or one for each position of each text,
            [batch, position, d] (`lookup`: position p is the text's token p, wherever padding has put it).
        strength: may be negative.
        positions: where.

    Raises:
        InputError: a value that is not finite; when it acts, another width than the site's.
    """
    return Add(direction, float(strength), positions)


def replace(value: Float[Tensor, "*batch d"], positions: Positions = EVERYWHERE) -> Replace:
    """Puts a value in the activation's place: [d], [batch, d], or [batch, position, d] (patching)."""
    return Replace(value, positions)


def ablate(mean: Float[Tensor, "d"] | None = None, positions: Positions = EVERYWHERE) -> Replace:
    """Takes the whole activation away: it becomes zero, or the mean that is given."""
    return Replace(torch.tensor(0.0) if mean is None else mean, positions)


def affine(matrix: Float[Tensor, "d_out d_in"], bias: Float[Tensor, "d"], positions: Positions = EVERYWHERE) -> Affine:
    """x Aᵀ + b.

    Raises:
        InputError: a matrix and a bias that do not fit each other.
    """
    return Affine(matrix, bias, positions)


def interchange(
    directions: Direction | Float[Tensor, "k d"],
    source: Float[Tensor, "*batch width"],
    positions: Positions = EVERYWHERE,
) -> Interchange:
    """Gives x the source's coordinates in the span of the directions; the rest of x stays.

    Args:
        directions: one direction, or any basis of the subspace.
        source: [d], [batch, d] or [batch, position, d].
        positions: where.

    Raises:
        InputError: directions that do not span as many dimensions as they are, or a source of another width.
    """
    return Interchange(rows_of(directions), source, positions)


def project_out(
    directions: Direction | Float[Tensor, "k d"],
    mean: Float[Tensor, "width"] | None = None,
    positions: Positions = EVERYWHERE,
) -> ProjectOut:
    """Takes the span of the directions out of x: sets it to zero, or to what `mean` has there.

    This is an edit of one site. Blocks after it may write the directions again, and blocks write them inside, between
    their attention and their MLP: project_out at every block's output is *not* the removal of a direction from the
    model, nor equal to orthogonalised weights. `directional_ablation` gives the edits that are.

    Raises:
        InputError: directions that do not span as many dimensions as they are, or a mean of another width.
    """
    rows = rows_of(directions)
    return ProjectOut(rows, torch.zeros(rows.shape[-1]) if mean is None else mean, positions)


def multiply(
    directions: Direction | Float[Tensor, "k d"],
    factor: float,
    centre: Float[Tensor, "width"] | None = None,
    positions: Positions = EVERYWHERE,
) -> Multiply:
    """Multiplies the coordinates in the span of the directions by a factor, about zero or a centre; the rest stays.

    A factor of 0 projects the directions out of this one site (see `project_out` for what that is not).
    """
    rows = rows_of(directions)
    return Multiply(rows, factor, torch.zeros(rows.shape[-1]) if centre is None else centre, positions)


def set_latents(
    dictionary: Dictionary,
    values: Mapping[int, LatentValue],
    positions: Positions = EVERYWHERE,
    source: str = ITSELF,
) -> SetLatents:
    """Sets latents by the delta clamp: what the dictionary does not explain of x stays.

    Args:
        dictionary: an autoencoder of this site, or a transcoder into it.
        values: for each latent its new value; 0 ablates it, a number that is its mean ablates it to the mean,
            `lambda old: old + 1` cannot be saved.
        positions: where.
        source: the captured site that a transcoder reads; an autoencoder reads the site that it edits.

    Raises:
        InputError: no latent is named, or one that the dictionary has not; a value that is not finite; a dictionary
            that writes another width than it reads, without a source.
    """
    return SetLatents(dictionary, tuple(values), tuple(values.values()), positions, source)


def scale_latents(
    dictionary: Dictionary, factors: Mapping[int, float], positions: Positions = EVERYWHERE, source: str = ITSELF
) -> ScaleLatents:
    """Multiplies latents by factors, by the delta clamp; arguments and errors as `set_latents`."""
    return ScaleLatents(dictionary, tuple(factors), tuple(factors.values()), positions, source)


def splice(dictionary: Dictionary, positions: Positions = EVERYWHERE, source: str = ITSELF) -> Splice:
    """Puts what the dictionary makes of its source in the activation's place.

    Args:
        dictionary: an autoencoder of this site, or a transcoder into it.
        positions: where.
        source: the captured site that a transcoder reads; an autoencoder reads the site that it edits.

    Raises:
        InputError: the dictionary writes another width than it reads, and no source is named; when it acts, a source
            that `editing` was not asked to capture.
    """
    return Splice(dictionary, positions, source)


def in_order(*operations: Operation) -> InOrder:
    """One operation that is several, one after the other."""
    return InOrder(operations)
