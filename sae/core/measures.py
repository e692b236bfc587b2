"""Measures that several analyses share, each with one definition."""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError


def fvu(x: Float[Tensor, "token d"], y: Float[Tensor, "token d"]) -> float:
    """Fraction of variance unexplained: Σ‖x − y‖² / Σ‖x − x̄‖², pooled over tokens.

    Args:
        x: activations, in the units of the model.
        y: their reconstruction, same units.

    Returns:
        0 for a perfect reconstruction, 1 for one no better than the mean.

    Raises:
        InputError: fewer than two tokens, or x has no variance.
    """
    if len(x) < 2:
        raise InputError(f"fvu needs at least two tokens, got {len(x)}")
    total = (x.double() - x.double().mean(0)).square().sum()
    if total == 0:
        raise InputError("fvu is undefined: all activations are equal")
    return float((x.double() - y.double()).square().sum() / total)


def cosine(a: Float[Tensor, "*n d"], b: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
    """Cosine of the angle between corresponding vectors; 0 where one of them is zero."""
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


def unit(rows: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Vectors scaled to length one; zero stays zero."""
    return torch.nn.functional.normalize(rows, dim=-1)
