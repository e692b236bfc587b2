"""Folding input scales into a dictionary, and out again.

A dictionary that was trained on x̃ = s ⊙ x to give ỹ = t ⊙ y reads and writes the model's own units once

    W_enc ← diag(s) W_enc / u      b_enc, θ, b_mag ← b_enc / u, θ / u, b_mag / u
    W_dec ← u W_dec diag(1/t)      b_dec ← b_dec / t        W_skip ← diag(1/t) W_skip diag(s)

for any u > 0: TopK, ReLU, JumpReLU, gates and matching pursuit are positively homogeneous, so codes are those of x̃
divided by u. In an autoencoder of one site s = t = u: both matrices stay as they are, and codes have the units of the
model. In general u is the geometric mean of t over the sites that are written.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.config import Strict
from sae.dictionary.dictionary import Dictionary


class Scales(Strict):
    """What activations are multiplied by, one number for each site that is read and written."""

    source: tuple[float, ...]
    target: tuple[float, ...]

    @property
    def unit(self) -> float:
        """What codes are divided by when scales are folded in."""
        if len(set(self.target)) == 1:
            return self.target[0]
        return math.exp(sum(map(math.log, self.target)) / len(self.target))

    def inverse(self) -> "Scales":
        """What undoes these."""
        return Scales(source=tuple(1 / s for s in self.source), target=tuple(1 / t for t in self.target))


def uniform(scale: float) -> Scales:
    """One number for the only site."""
    return Scales(source=(scale,), target=(scale,))


def over_columns(
    scales: tuple[float, ...], widths: tuple[int, ...], device: torch.device | None = None
) -> Float[Tensor, "d"]:
    """The number of every column where sites of these widths stand side by side; made where it is used."""
    each = zip(scales, widths, strict=True)
    return torch.cat([torch.full((width,), scale, dtype=torch.float64, device=device) for scale, width in each])


def fold(dictionary: Dictionary, scales: Scales) -> Dictionary:
    """The same map in the units of the unscaled activations; a new dictionary.

    Args:
        dictionary: trained on scaled activations.
        scales: what they were multiplied by, all positive.
    """
    assert min(*scales.source, *scales.target) > 0
    config, unit = dictionary.config, scales.unit
    s = over_columns(scales.source, config.widths if config.parts else (config.d_in,))
    t = over_columns(scales.target, config.widths)
    folded = dictionary.copy()
    state = folded.state_dict()
    with torch.no_grad():
        for name, factor in (("encoder_rows", s / unit), ("W_dec", unit / t), ("b_dec", 1 / t)):
            state[name].mul_(factor.to(state[name]))
        for name in {"b_enc", "threshold", "b_mag"} & state.keys():
            state[name].div_(unit)
        if config.skip:
            state["W_skip"].mul_((s / t[:, None]).to(state["W_skip"]))
    return folded
