"""What can be done to activations: each operation gives a function f(x, context) for `sae.lm.editing`.

With D a dictionary, z = D.encode(x), V an orthonormal basis (rows) of a few directions:

    add           x + v
    set_latents   x + D.decode(z') − D.decode(z) = x + Σ_i (z'_i − z_i) W_dec[i]     the delta clamp
    splice        D.decode(z)
    replace       a given value
    interchange   x + (s − x) VᵀV             x takes the source's coordinates in the subspace
    project_out   x − x VᵀV (or, with a mean m: x + (m − x) VᵀV)

In the delta clamp the reconstruction error x − D.decode(z) cancels, so setting latents to what they are changes
nothing, and since decode is affine only the rows that change are read.
"""

from collections.abc import Callable, Mapping
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.dictionary import Dictionary
from sae.intervention.direction import Direction
from sae.intervention.positions import Positions, everywhere, selected
from sae.kernels import Code, DenseCode, FixedCode
from sae.lm.hooks import Context, Edit

LatentValue = int | float | Tensor | Callable[[Tensor], Tensor]
"""What a latent is set to: a number, one for each [batch, position], or a function of what it was."""


def add(
    direction: Direction | Float[Tensor, "*batch d"], strength: float = 1.0, positions: Positions | None = None
) -> Edit:
    """Adds strength times a direction (in its units) or a vector (in the model's).

    Args:
        direction: a `Direction`, a vector [d], or one for each text and position, [batch, position, d].
        strength: may be negative.
        positions: where; everywhere by default.
    """
    step = direction.step(strength) if isinstance(direction, Direction) else direction * strength
    return _edit(lambda x, context: x + _fitting(step, x), positions)


def set_latents(dictionary: Dictionary, values: Mapping[int, LatentValue], positions: Positions | None = None) -> Edit:
    """Sets latents by the delta clamp: what the dictionary does not explain of x stays.

    Args:
        dictionary: an autoencoder of this site.
        values: for each latent its new value; 0 removes it, `lambda old: 2 * old` doubles it.
        positions: where; everywhere by default.

    Raises:
        InputError: no latent is named, or one that the dictionary has not; a dictionary that writes another width
            than it reads.
    """
    _check_autoencoder(dictionary)
    wrong = [latent for latent in values if not 0 <= latent < dictionary.d_sae]
    if wrong or not values:
        named = f"no latent {wrong[0]}" if wrong else "no latent is named"
        raise InputError(f"{named}; the dictionary has latents 0 to {dictionary.d_sae - 1}")
    latents = torch.tensor(list(values))

    def clamp(x: Tensor, context: Context) -> Tensor:
        old = latent_values(dictionary.encode(x.to(dictionary.W_dec.dtype)), latents)
        new = torch.stack([_value(value, old[..., i]) for i, value in enumerate(values.values())], dim=-1)
        return x + ((new - old) @ dictionary.W_dec[latents.to(x.device)]).to(x.dtype)

    return _edit(clamp, positions)


def splice(dictionary: Dictionary, positions: Positions | None = None) -> Edit:
    """Puts the dictionary's reconstruction in the activation's place.

    Raises:
        InputError: the dictionary writes another width than it reads.
    """
    _check_autoencoder(dictionary)
    return _edit(lambda x, context: dictionary(x.to(dictionary.W_dec.dtype)).to(x.dtype), positions)


def replace(value: Float[Tensor, "*batch d"], positions: Positions | None = None) -> Edit:
    """Puts a value in the activation's place: [d] (a mean, zero) or [batch, position, d] (patching)."""
    return _edit(lambda x, context: _fitting(value, x).expand_as(x), positions)


def interchange(
    directions: Float[Tensor, "k d"], source: Float[Tensor, "*batch d"], positions: Positions | None = None
) -> Edit:
    """Gives x the source's coordinates in the span of the directions; the rest of x stays.

    Args:
        directions: any basis of the subspace.
        source: [d] or [batch, position, d].
        positions: where; everywhere by default.

    Raises:
        InputError: directions that do not span as many dimensions as they are.
    """
    basis = orthonormal(directions)

    def swap(x: Tensor, context: Context) -> Tensor:
        rows = _fitting(basis, x)
        return x + (_fitting(source, x) - x) @ rows.T @ rows

    return _edit(swap, positions)


def project_out(
    directions: Float[Tensor, "k d"], mean: Float[Tensor, "d"] | None = None, positions: Positions | None = None
) -> Edit:
    """Takes the span of the directions out of x: sets it to zero, or to what `mean` has there.

    At one site this removes what the site holds; blocks after it may write the directions again.
    """
    source = torch.zeros(directions.shape[1]) if mean is None else mean
    return interchange(directions, source, positions)


def orthonormal(directions: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Orthonormal rows that span the same.

    Raises:
        InputError: the rows are linearly dependent.
    """
    u, scales, rows = torch.linalg.svd(directions.float(), full_matrices=False)
    if len(directions) > directions.shape[1] or scales[-1] <= 1e-6 * scales[0]:
        raise InputError(f"the {len(directions)} directions are zero or linearly dependent")
    return (u @ rows).to(directions.dtype)


def latent_values(code: Code, latents: Tensor) -> Tensor:
    """Activations of a few latents, [..., n], without anything of the dictionary's width for a sparse code."""
    latents = latents.to(code.values.device)
    match code:
        case DenseCode():
            return code.values[..., latents]
        case FixedCode():
            held = code.indices[..., None, :] == latents[:, None]
            return (held * code.values[..., None, :]).sum(-1)
        case _:
            assert_never(code)


def _check_autoencoder(dictionary: Dictionary) -> None:
    if dictionary.d_in != dictionary.d_out:
        raise InputError(f"a dictionary from width {dictionary.d_in} to {dictionary.d_out} cannot edit its own site")


def _edit(change: Edit, positions: Positions | None) -> Edit:
    rule = positions or everywhere()
    return lambda x, context: selected(rule, context, x, change(x, context))


def _value(value: LatentValue, old: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(old).expand_as(old)
    return value(old) if callable(value) else torch.full_like(old, value)


def _fitting(value: Tensor, x: Tensor) -> Tensor:
    """The value on x's device and in its dtype, once its width is checked."""
    if value.shape[-1] != x.shape[-1]:
        raise InputError(f"a direction or value of width {value.shape[-1]} at a site of width {x.shape[-1]}")
    return value.to(x)
