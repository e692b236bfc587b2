"""What is spliced in for the activations: the dictionary, and the simple things that stand beside it."""

from dataclasses import dataclass
from typing import NamedTuple, assert_never

import numpy as np
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


@dataclass(frozen=True, eq=False)
class Resampled:
    """For every token the activation of another one, drawn from `rows`: what a token looks like, but not which.

    Resample ablation keeps the distribution of activations, where a constant leaves it: Chan et al. 2022, "Causal
    scrubbing".
    """

    rows: Float[Tensor, "row d"]

    def of(self, places: Int[Tensor, "token"]) -> Float[Tensor, "token d"]:
        """The row of every token, which depends on its place alone."""
        return self.rows[_mixed(places) % len(self.rows)]


Contender = Coded | Projected | Ablated | Resampled


def lengths_of(contender: Contender) -> Float[np.ndarray, "latent"]:
    """The lengths of a contender's decoder rows; none for those without latents."""
    if not isinstance(contender, Coded):
        return np.zeros(0)
    return contender.dictionary.W_dec.detach().double().norm(dim=1).cpu().numpy()


def reconstruct(
    contender: Contender,
    x: Float[Tensor, "token d_in"],
    target: Float[Tensor, "token d"],
    places: Int[Tensor, "token"],
) -> Reconstruction:
    """The contender's version of the target.

    Args:
        contender: a dictionary makes it from x, the others from the target itself.
        x: what a dictionary reads.
        target: what it should write: x itself but for a transcoder.
        places: a number for every token of the text, so that what is random does not depend on the batch.
    """
    match contender:
        case Coded(dictionary=dictionary):
            code = dictionary.encode(x)
            return Reconstruction(dictionary.with_skip(dictionary.decode(code), x), code.l0(), active(code))
        case Projected(pca=pca):
            k = torch.full((len(x),), len(pca.components), device=x.device)
            return Reconstruction(pca(target), k, NOTHING)
        case Ablated(value=value):
            return Reconstruction(value.expand(len(x), -1), torch.zeros_like(places), NOTHING)
        case Resampled():
            return Reconstruction(contender.of(places), torch.zeros_like(places), NOTHING)
        case _:
            assert_never(contender)


def _mixed(numbers: Int[Tensor, "token"]) -> Int[Tensor, "token"]:
    """Numbers above zero that look random: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    mixed = numbers.cpu().numpy().astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return torch.from_numpy(((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)).to(numbers.device)
