"""Ablation and patching as displacements of one site, over the region from the span to the prediction.

With code z, decoder rows w_j, a text's activations x and, aligned with them, its twin's x′ with code z′:

    ablate latents J            Δ = −Σ_J z_j w_j                   (delta clamp: the reconstruction error stays)
    patch latents J             Δ = Σ_J (z′_j − z_j) w_j
    patch along directions U    Δ = (x′ − x) UᵀU, U orthonormal     (interchange within the subspace)
    patch everything            Δ = x′ − x                         (the ceiling: all that the site can do)

The region begins at the last token of the span, where the whole expression has been read, and ends at the place of
prediction. Twins are aligned there, so a twin of another length has the same number of tokens from the span on, or is
patched as far as it goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary import Dictionary
from sae.intervention import orthonormal
from sae.probe.prompt import Prompt


@dataclass(frozen=True, eq=False)
class Region:
    """A site's activations and their code over one prompt's region."""

    x: Float[Tensor, "token d"]
    code: Float[Tensor, "token d_sae"]


@torch.no_grad()
def region_of(dictionary: Dictionary, prompt: Prompt, x: Float[Tensor, "token d"]) -> Region:
    """Cuts the region out of a prompt's activations and encodes it."""
    inside = x[prompt.region]
    return Region(inside, dictionary.encode(inside).dense())


def ablation(region: Region, W_dec: Float[Tensor, "d_sae d"], latents: Sequence[int]) -> Float[Tensor, "token d"]:
    """Sets the latents to zero."""
    return -region.code[:, list(latents)] @ W_dec[list(latents)]


def latent_patch(
    region: Region, twin: Region, W_dec: Float[Tensor, "d_sae d"], latents: Sequence[int]
) -> Float[Tensor, "token d"]:
    """Sets the latents to what they are in the twin."""
    chosen, n = list(latents), len(twin.code)
    change = twin.code[:, chosen] - region.code[:n, chosen]
    return _as_long_as(region, change @ W_dec[chosen])


def direction_patch(region: Region, twin: Region, directions: Float[Tensor, "k d"]) -> Float[Tensor, "token d"]:
    """Sets the components along the directions, and nothing else, to what they are in the twin."""
    basis = orthonormal(directions)
    return _as_long_as(region, (twin.x - region.x[: len(twin.x)]) @ basis.T @ basis)


def whole_patch(region: Region, twin: Region) -> Float[Tensor, "token d"]:
    """Sets the whole activation to the twin's."""
    return _as_long_as(region, twin.x - region.x[: len(twin.x)])


def _as_long_as(region: Region, change: Float[Tensor, "short d"]) -> Float[Tensor, "token d"]:
    """Zero where the twin has ended."""
    out = torch.zeros_like(region.x)
    out[: len(change)] = change
    return out


def in_prompt(prompt: Prompt, change: Float[Tensor, "region d"]) -> Float[Tensor, "token d"]:
    """A displacement of the region as one of the whole prompt."""
    out = torch.zeros(len(prompt.ids), change.shape[1])
    out[prompt.region] = change
    return out
