"""Operations through a dictionary D, with z = D.encode(s) the code of what it reads:

    set, scale    x + D.decode(z′) − D.decode(z) = x + Σ_i (z′_i − z_i) W_dec[i]     the delta clamp
    splice        D(s)                                                              reconstruction in x's place

An autoencoder reads the activation that it edits, s = x. A transcoder reads another, earlier site of the same pass,
which `editing` must be asked to capture. In the delta clamp what the dictionary does not explain of x cancels, so
setting latents to what they are changes nothing; and since decode is affine only the rows that change are read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.dictionary import Dictionary
from sae.intervention.lookup import aligned, check_rows, check_width, look_up
from sae.intervention.positions import Everywhere, Positions, selected
from sae.intervention.whole import check_number
from sae.kernels import Code, DenseCode, FixedCode, RaggedCode
from sae.lm.hooks import Context
from sae.lm.site import parse_site

LatentValue = int | float | Tensor | Callable[[Tensor], Tensor]
"""What a latent is set to: a number, one for each text [batch] or position [batch, position], or a function of what
it was."""
ITSELF = ""
"""The source of an autoencoder: the site that it edits."""


@dataclass(frozen=True, eq=False)
class SetLatents:
    """Latents take given values; what the dictionary does not explain of x stays."""

    dictionary: Dictionary
    latents: tuple[int, ...]
    values: tuple[LatentValue, ...]
    positions: Positions = field(default_factory=Everywhere)
    source: str = ITSELF

    def __post_init__(self) -> None:
        _check(self.dictionary, self.source)
        _check_latents(self.dictionary, self.latents, self.values)
        for latent, value in zip(self.latents, self.values, strict=True):
            if isinstance(value, Tensor):
                _check_values(latent, value)
            elif not callable(value):
                check_number(value, f"the value of latent {latent}:")

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        old = _active(self.dictionary, self.latents, x, context, self.source)
        new = torch.stack([_value(v, old[..., i], context) for i, v in enumerate(self.values)], dim=-1)
        return selected(self.positions, context, x, _moved(self.dictionary, self.latents, x, new - old))

    def __str__(self) -> str:
        pairs = zip(self.latents, self.values, strict=True)
        set_to = ", ".join(f"latent {latent} to {_value_in_words(value)}" for latent, value in pairs)
        return f"set {set_to} {_of(self.dictionary, self.source)} {self.positions}"


@dataclass(frozen=True, eq=False)
class ScaleLatents:
    """Latents are multiplied by factors; what the dictionary does not explain of x stays."""

    dictionary: Dictionary
    latents: tuple[int, ...]
    factors: tuple[float, ...]
    positions: Positions = field(default_factory=Everywhere)
    source: str = ITSELF

    def __post_init__(self) -> None:
        _check(self.dictionary, self.source)
        _check_latents(self.dictionary, self.latents, self.factors)
        for factor in self.factors:
            check_number(factor, "factor")

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        old = _active(self.dictionary, self.latents, x, context, self.source)
        change = old * torch.tensor([factor - 1 for factor in self.factors]).to(old)
        return selected(self.positions, context, x, _moved(self.dictionary, self.latents, x, change))

    def __str__(self) -> str:
        pairs = zip(self.latents, self.factors, strict=True)
        by = ", ".join(f"latent {latent} by {factor:g}" for latent, factor in pairs)
        return f"multiply {by} {_of(self.dictionary, self.source)} {self.positions}"


@dataclass(frozen=True, eq=False)
class Splice:
    """What the dictionary makes of its source, in the activation's place."""

    dictionary: Dictionary
    positions: Positions = field(default_factory=Everywhere)
    source: str = ITSELF

    def __post_init__(self) -> None:
        _check(self.dictionary, self.source)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        check_width(self.dictionary.d_out, x)
        s = _read(self.source, x, context).to(self.dictionary.W_dec)
        return selected(self.positions, context, x, self.dictionary(s).to(x))

    def __str__(self) -> str:
        return f"splice in the reconstruction {_of(self.dictionary, self.source)} {self.positions}"


def latent_values(code: Code, latents: Tensor) -> Tensor:
    """Activations of a few latents, [..., n], without anything of the dictionary's width for a sparse code."""
    latents = latents.to(code.values.device)
    match code:
        case DenseCode():
            return code.values[..., latents]
        case FixedCode():
            held = code.indices[..., None, :] == latents[:, None]
            return (held * code.values[..., None, :]).sum(-1)
        case RaggedCode():
            held = (code.indices[:, None] == latents) * code.values[:, None]
            sums = held.new_zeros(code.n_tokens, len(latents)).index_add(0, code.tokens, held)
            return sums.view(*code.shape, len(latents))
        case _:
            assert_never(code)


def _active(
    dictionary: Dictionary, latents: tuple[int, ...], x: Tensor, context: Context, source: str
) -> Float[Tensor, "*token latent"]:
    s = _read(source, x, context).to(dictionary.W_dec)
    return latent_values(dictionary.encode(s), torch.tensor(latents))


def _moved(dictionary: Dictionary, latents: tuple[int, ...], x: Tensor, change: Tensor) -> Tensor:
    check_width(dictionary.d_out, x)
    rows = dictionary.W_dec[torch.tensor(latents, device=dictionary.W_dec.device)]
    return x + (change @ rows).to(x)


def _read(source: str, x: Tensor, context: Context) -> Tensor:
    if source == ITSELF:
        return x
    if source not in context.captured:
        at = f" at {context.site}" if context.site else ""
        raise InputError(f"the edit{at} reads {source}, which was not captured: editing(…, capture=[{source!r}])")
    return context.captured[source]


def _value(value: LatentValue, old: Float[Tensor, "batch position *head"], context: Context) -> Tensor:
    if isinstance(value, Tensor):
        if value.ndim == 2:
            found = look_up(value, context, "values of a latent")
            inside = aligned(found.inside, old, context).to(old.device)
            return torch.where(inside, aligned(found.values, old, context).to(old), old)
        if value.ndim == 1:
            check_rows(len(value), context, "values of a latent")
            value = aligned(value[:, None], old, context)
        return value.to(old).expand_as(old)
    return value(old) if callable(value) else torch.full_like(old, value)


def _check(dictionary: Dictionary, source: str) -> None:
    if source != ITSELF:
        parse_site(source)
    elif dictionary.d_in != dictionary.d_out:
        raise InputError(
            f"a dictionary from width {dictionary.d_in} to {dictionary.d_out} cannot edit its own site;"
            " name the site that it reads as `source`"
        )


def _check_latents(dictionary: Dictionary, latents: tuple[int, ...], values: tuple[object, ...]) -> None:
    numbers = [latent for latent in latents if type(latent) is not int]
    if numbers:
        raise InputError(f"latent {numbers[0]!r} is no plain int, so that it could not be saved")
    wrong = [latent for latent in latents if not 0 <= latent < dictionary.d_sae]
    if wrong or not latents:
        named = f"no latent {wrong[0]}" if wrong else "no latent is named"
        raise InputError(f"{named}; the dictionary has latents 0 to {dictionary.d_sae - 1}")
    if len(set(latents)) != len(latents) or len(values) != len(latents):
        raise InputError(f"latents {list(latents)} and {len(values)} values; name each latent once, with one value")


def _check_values(latent: int, value: Tensor) -> None:
    if value.ndim > 2 or value.numel() == 0 or not value.isfinite().all():
        raise InputError(
            f"the values {list(value.shape)} of latent {latent} must be finite: a number, [batch] or [batch, position]"
        )


def _value_in_words(value: LatentValue) -> str:
    if isinstance(value, Tensor):
        return f"{value.item():g}" if value.ndim == 0 else f"{' × '.join(map(str, value.shape))} values"
    return "a function of what it was" if callable(value) else f"{value:g}"


def _of(dictionary: Dictionary, source: str) -> str:
    site = f" trained at {dictionary.config.site}" if dictionary.config.site else ""
    reads = f" reading {source}" if source else ""
    return f"of a dictionary of {dictionary.d_sae} latents{site}{reads}"
