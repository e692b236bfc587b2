"""How far what a dictionary writes is from its target: mean squared error, of one code or of several.

    MeanSquare    mean (y − ŷ)²
    MultiTopK     mean (y − ŷ_k)² + w · mean (y − ŷ_{4k})²       Gao et al. 2024, arXiv:2406.04093; w = 1/8
    Nested        mean over prefixes m of mean (y − ŷ_{≤m})²     Bussmann et al. 2025, arXiv:2503.17547

ŷ_{≤m} is decoded from the first m latents only, so that the first ones must explain what matters most. The mean over
prefixes (the paper's sum, divided by their number) keeps the auxiliary term's weight beside it what it is elsewhere.
Prefixes are fixed, or drawn anew at every step with probability falling as a power of their length, as in Bussmann et
al.; the whole is always one of them.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, assert_never

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae import kernels
from sae.core.config import Strict
from sae.core.random import numpy_generator
from sae.dictionary import Dictionary, TopK
from sae.dictionary.linear import Encoded
from sae.kernels import Code, DenseCode, FixedCode, RaggedCode
from sae.kernels.marks import places
from sae.objective.mean_square import mean_square


class MeanSquare(Strict):
    """Of the code alone."""

    kind: Literal["mean_square"] = "mean_square"


class MultiTopK(Strict):
    """TopK's error plus that of a code with more latents, so that more of them than k can be used afterwards."""

    kind: Literal["multi_topk"] = "multi_topk"
    factor: int = Field(default=4, ge=2)
    """Times k latents in the wider code."""
    weight: float = Field(default=1 / 8, gt=0)
    """Of the wider code's error."""


class Nested(Strict):
    """The mean of the errors of nested prefixes of the dictionary."""

    kind: Literal["nested"] = "nested"
    prefixes: tuple[int, ...]
    """Numbers of latents, rising; the last is all of them."""


class RandomPrefixes(Strict):
    """As `Nested`, with prefixes drawn at every step."""

    kind: Literal["random_prefixes"] = "random_prefixes"
    n: int = Field(default=10, ge=1)
    """Prefixes a step, the whole included."""
    power: float = Field(default=0.5, ge=0)
    """A prefix of length m is drawn with a probability that falls as m^−(1 + power)."""
    seed: int = 0


Reconstruction = Annotated[MeanSquare | MultiTopK | Nested | RandomPrefixes, Field(discriminator="kind")]


class Reconstructed(NamedTuple):
    """What was decoded, and how far it is from the target."""

    y: Float[Tensor, "token d_out"]
    """Decoded from the whole code."""
    error: Float[Tensor, ""]
    """What is minimised."""


def reconstructed(
    how: MeanSquare | MultiTopK | Nested | RandomPrefixes,
    dictionary: Dictionary,
    encoded: Encoded,
    x: Float[Tensor, "token d_in"],
    target: Float[Tensor, "token d_out"],
    step: int,
) -> Reconstructed:
    """Decodes a code of x and compares it with the target.

    Args:
        how: which errors are added.
        dictionary: what decodes.
        encoded: x; with `MultiTopK` by the wider code, descending, of which the first k are the code proper.
        x: the input, for a skip.
        target: what should come out.
        step: whose prefixes are drawn.
    """
    code, near = encoded.code, encoded.near
    match how:
        case MeanSquare():
            y = dictionary.decode(code)
            y = dictionary.with_skip(y if near is None else near.heard(y, dictionary.W_dec), x)
            return Reconstructed(y, mean_square(target, y))
        case MultiTopK(weight=weight):
            y = dictionary.with_skip(dictionary.decode(narrowed(dictionary, code)), x)
            wide = dictionary.with_skip(dictionary.decode(code), x)
            return Reconstructed(y, mean_square(target, y) + weight * mean_square(target, wide))
        case Nested(prefixes=prefixes):
            return _nested(prefixes, dictionary, code, x, target)
        case RandomPrefixes():
            return _nested(draw(how, dictionary.d_sae, step), dictionary, code, x, target)
        case _:
            assert_never(how)


def narrowed(dictionary: Dictionary, code: Code) -> FixedCode:
    """The first k latents of a wider code."""
    activation = dictionary.config.activation
    assert isinstance(code, FixedCode)
    assert isinstance(activation, TopK)
    return FixedCode(code.values[..., : activation.k], code.indices[..., : activation.k], code.d_sae)


def draw(how: RandomPrefixes, d_sae: int, step: int) -> tuple[int, ...]:
    """The prefixes of a step, rising, each once; the last is the whole."""
    lengths = torch.arange(1, d_sae, dtype=torch.float64).numpy()
    chances = lengths ** -(1 + how.power)
    n = min(how.n - 1, len(lengths))
    g = numpy_generator(how.seed, "prefixes", step)
    chosen = g.choice(len(lengths), size=n, replace=False, p=chances / chances.sum()) + 1 if n else []
    return (*sorted(int(m) for m in chosen), d_sae)


def _nested(prefixes: tuple[int, ...], dictionary: Dictionary, code: Code, x: Tensor, target: Tensor) -> Reconstructed:
    y = dictionary.with_skip(dictionary.b_dec.expand(len(x), -1), x)
    errors = []
    for part in divided(code, prefixes):
        y = y + kernels.sparse_decode(part, dictionary.W_dec)
        errors.append(mean_square(target, y))
    return Reconstructed(y, torch.stack(errors).mean())


def divided(code: Code, prefixes: tuple[int, ...]) -> Iterator[Code]:
    """A code's parts: what is in the first prefix, what the second adds, and so on."""
    bounds = (0, *prefixes)
    n_below: list[int | None] = [None] * len(bounds)
    if isinstance(code, RaggedCode):
        n_below = torch.stack([(code.indices < bound).sum() for bound in bounds]).tolist()
    for (first, last), (before, after) in zip(pairwise(bounds), pairwise(n_below), strict=True):
        yield between(code, first, last, None if before is None or after is None else after - before)


def between(code: Code, first: int, last: int, n_pairs: int | None = None) -> Code:
    """The part of a code that belongs to latents `first` … `last` − 1; of so many pairs, where that is known."""
    match code:
        case DenseCode(values=values):
            inside = torch.zeros(code.d_sae, dtype=values.dtype, device=values.device)
            inside[first:last] = 1
            return DenseCode(values * inside)
        case FixedCode(values=values, indices=indices):
            return FixedCode(values * ((indices >= first) & (indices < last)), indices, code.d_sae)
        case RaggedCode(values=values, indices=indices, starts=starts):
            inside = (indices >= first) & (indices < last)
            n_before = torch.nn.functional.pad(inside.cumsum(0), (1, 0))
            where = places(inside, n_pairs)
            return RaggedCode(values.index_select(0, where), indices[where], n_before[starts], code.shape, code.d_sae)
        case _:
            assert_never(code)
