"""What is spliced in for the activations: the dictionary, and the simple things that stand beside it."""

from dataclasses import dataclass
from typing import NamedTuple, assert_never

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.dictionary.dictionary import Dictionary
from sae.evaluation.active import NOTHING, Active, active
from sae.evaluation.pca import Pca


class Reconstruction(NamedTuple):
    """What a contender makes of activations."""

    y: Float[Tensor, "token d"]
    n_active: Int[Tensor, "token"]
    """Numbers that it used per token."""
    active: Active
    """Active latents; none if the contender has no latents."""


@dataclass(frozen=True, eq=False)
class Coded:
    """A dictionary."""

    dictionary: Dictionary


@dataclass(frozen=True, eq=False)
class Projected:
    """Principal components."""

    pca: Pca


@dataclass(frozen=True, eq=False)
class Ablated:
    """One vector for every token: zero, or the mean."""

    value: Float[Tensor, "d"]


Contender = Coded | Projected | Ablated


def n_latents(contender: Contender) -> int:
    """How many latents a contender has; 0 for those without."""
    return contender.dictionary.config.d_sae if isinstance(contender, Coded) else 0


def reconstruct(
    contender: Contender, x: Float[Tensor, "token d_in"], target: Float[Tensor, "token d"]
) -> Reconstruction:
    """The contender's version of the target.

    Args:
        contender: a dictionary makes it from x, the others from the target itself.
        x: what a dictionary reads.
        target: what it should write: x itself but for a transcoder.
    """
    match contender:
        case Coded(dictionary=dictionary):
            code = dictionary.encode(x)
            return Reconstruction(dictionary.with_skip(dictionary.decode(code), x), code.l0(), active(code))
        case Projected(pca=pca):
            k = torch.full((len(x),), len(pca.components), device=x.device)
            return Reconstruction(pca(target), k, NOTHING)
        case Ablated(value=value):
            nothing = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            return Reconstruction(value.expand(len(x), -1), nothing, NOTHING)
        case _:
            assert_never(contender)
