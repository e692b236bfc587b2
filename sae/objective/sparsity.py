"""What keeps a code sparse where the activation does not by itself; strength λ is the controller's.

    WeightedL1     λ · mean Σ_f z_f Σ_s ‖W_dec[f, s]‖     Bricken et al. 2023; weighted by norms: Conerly et al. 2024,
                                                         "Update on how we train SAEs"; summed over the sites s of a
                                                         crosscoder: Lindsey et al. 2024, "Sparse crosscoders"
    StepL0         λ · mean L0                            Rajamanoharan et al. 2024, arXiv:2407.14435
    TargetL0       λ · (mean L0 / l0 − 1)²                the same; of the batch's mean, so coupled over a batch
    Tanh           λ · mean Σ_f tanh(c z_f ‖W_dec[f]‖)    Conerly et al. 2025, "Dictionary learning optimization
                                                         techniques"; c = 4

L0 here is Σ_f H(h_f − θ_f), whose gradient reaches the thresholds alone (`sae.dictionary.jumprelu`). All means are over
tokens. A gate's L1 is of its positive pre-activations, since these decide what fires.
"""

from typing import Annotated, Literal, assert_never

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae.core.config import Strict
from sae.dictionary import Dictionary, Gated, JumpRelu
from sae.dictionary.linear import Encoded
from sae.kernels import Code, DenseCode, FixedCode, RaggedCode
from sae.parallel import Axis, token_mean


class NoPenalty(Strict):
    """The activation is sparse by itself."""

    kind: Literal["none"] = "none"


class WeightedL1(Strict):
    """Activations times the norms of what they write."""

    kind: Literal["weighted_l1"] = "weighted_l1"


class StepL0(Strict):
    """The mean number of active latents."""

    kind: Literal["step"] = "step"


class TargetL0(Strict):
    """The squared relative distance of the mean number of active latents from a target."""

    kind: Literal["quadratic"] = "quadratic"
    l0: float = Field(gt=0)


class Tanh(Strict):
    """A count of active latents that saturates."""

    kind: Literal["tanh"] = "tanh"
    c: float = Field(default=4.0, gt=0)


Penalty = Annotated[NoPenalty | WeightedL1 | StepL0 | TargetL0 | Tanh, Field(discriminator="kind")]


def penalty(
    how: NoPenalty | WeightedL1 | StepL0 | TargetL0 | Tanh,
    dictionary: Dictionary,
    encoded: Encoded,
    strength: float,
    data: Axis,
) -> Float[Tensor, ""]:
    """The weighted penalty of a batch of codes [token, d_sae]; `data` are the ranks that have the rest of the batch."""
    match how:
        case NoPenalty():
            return dictionary.b_dec.new_zeros(())
        case WeightedL1():
            sizes = _sizes(dictionary, encoded)
            return strength * (sizes.totals() @ written_norms(dictionary)) / sizes.n_tokens
        case StepL0():
            return strength * _steps(dictionary, encoded).mean()
        case TargetL0(l0=l0):
            return strength * (token_mean(_steps(dictionary, encoded), data) / l0 - 1).square()
        case Tanh(c=c):
            weighted = _times(_sizes(dictionary, encoded), c * written_norms(dictionary))
            return strength * torch.tanh(weighted).sum() / encoded.code.n_tokens
        case _:
            assert_never(how)


def written_norms(dictionary: Dictionary) -> Float[Tensor, "d_sae"]:
    """Σ over the sites that are written of the norm of a latent's row there."""
    parts = dictionary.W_dec.split(list(dictionary.config.widths), dim=1)
    return torch.stack([part.norm(dim=1) for part in parts]).sum(0)


def _sizes(dictionary: Dictionary, encoded: Encoded) -> Code:
    """What counts as a latent's size."""
    return encoded.gate if isinstance(dictionary.config.activation, Gated) else encoded.code


def _steps(dictionary: Dictionary, encoded: Encoded) -> Float[Tensor, "token"]:
    """How many latents each token has, for thresholds to hear; what only they hear counts as of all tokens alike."""
    assert isinstance(dictionary.config.activation, JumpRelu), "only thresholds hear of a count"
    counts = encoded.gate.sums()
    return counts if encoded.near is None else counts + encoded.near.steps() / encoded.gate.n_tokens


def _times(code: Code, weights: Float[Tensor, "d_sae"]) -> Float[Tensor, "*stored"]:
    """The stored values of a code, each times the weight of its latent."""
    match code:
        case DenseCode(values=values):
            return values * weights
        case FixedCode(values=values, indices=indices) | RaggedCode(values=values, indices=indices):
            return values * weights.index_select(0, indices.flatten()).view_as(values)
        case _:
            assert_never(code)
