"""AuxK: dead latents learn by predicting what the others left unexplained.

    e = target − y        ê = Σ over the k_aux largest dead pre-activations of ReLU(h_f) W_dec[f]
    L = Σ‖e − ê‖² / Σ‖e − ē‖²        (not a number → 0)

Gao et al. 2024, arXiv:2406.04093, appendix; coefficient 1/32 as there. The residual e is a target: no gradient
flows into it, nor through the centring of the input. ê has no bias, and the gradient reaches both the decoder and
the encoder of the dead latents. The ReLU lets a dead latent learn what it will do once it is alive; its gradient passes
straight through, or a latent that is negative at every token would never hear anything. Without the ReLU the signed
sums diverge where a few tokens have norms twenty times the others' (the full stops of the microworld, rate 4e-3: FVU
0.0097 after 2M tokens without it, 0.0006 after 4M with it).

On a GPU its products are of bfloat16, and whole where more than a 96th of the dead latents is used: with 5 % dead, d
2,304 and 4,096, a step takes 1.4 times as long as with none; gathering an eighth of the rows for every token, it took
2.4 to 2.7 times (H200). Rounding costs nothing: topk on the million rows below, three seeds, MCC .834, .830, .827 and
rounded on a processor .834, .830, .826; FVU .089, .088, .089 twice.

Of n dead latents at most a share of n is used for a token. Where k_aux is as large as n, all of them are: a dense code,
which learns the residual's principal directions and no features. A million rows of "1024-in-128" (l0 6, seed 0), FVU /
MCC / dead with half the width as k_aux, all dead latents and an eighth of them: topk .102 / .780 / .032 and .089 / .840
/ 0, batchtopk .067 / .819 / .008 and .057 / .873 / 0 (`scripts/study_defaults.py --groups "auxk share"`).
"""

from contextlib import nullcontext
from typing import Annotated, Literal, NamedTuple, assert_never

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from sae import kernels
from sae.core.config import Strict
from sae.dictionary import Dictionary
from sae.kernels import choice
from sae.kernels.marks import places
from sae.parallel import Axis, token_mean

_TILE = 64
"""Rows."""


class NoAuxiliary(Strict):
    """No auxiliary term: its loss is zero."""

    kind: Literal["none"] = "none"


class AuxK(Strict):
    """Dead latents predict the residual."""

    kind: Literal["auxk"] = "auxk"
    coefficient: float = Field(default=1 / 32, gt=0)
    """Weight beside the reconstruction error, both relative to a variance (Gao et al. 2024: 1/32)."""
    k: int = Field(ge=1)
    """Dead latents used for each token (Gao et al. 2024: a power of two near d_in / 2)."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Of the dead latents, the most that are used for a token, but one at least (Gao et al. 2024: all)."""


Auxiliary = Annotated[NoAuxiliary | AuxK, Field(discriminator="kind")]


class Dead(NamedTuple):
    """Which latents are dead."""

    marks: Bool[Tensor, "d_sae"]
    n: int | None = None
    """How many, where that is known."""


def auxiliary_loss(
    auxiliary: NoAuxiliary | AuxK,
    dictionary: Dictionary,
    x: Float[Tensor, "token d_in"],
    target: Float[Tensor, "token d_out"],
    y: Float[Tensor, "token d_out"],
    dead: Dead,
    data: Axis,
) -> Float[Tensor, ""]:
    """The weighted auxiliary term; zero where no latent is dead.

    Args:
        auxiliary: the term.
        dictionary: what is trained.
        x: what it reads.
        target: what it should write.
        y: what it writes.
        dead: which latents are dead.
        data: ranks that have the rest of the batch.
    """
    match auxiliary:
        case NoAuxiliary():
            return x.new_zeros(())
        case AuxK(coefficient=coefficient, k=k, share=share):
            latents = places(dead.marks, dead.n)
            if not len(latents):
                return x.new_zeros(())
            most = min(k, max(1, int(share * len(latents))))
            return coefficient * _unexplained(dictionary, x, (target - y).detach(), latents, most, data)
        case _:
            assert_never(auxiliary)


def _is_quick(x: Tensor) -> bool:
    """Whether whole products of bfloat16 are as good as free beside what single pairs would cost."""
    return x.is_cuda and choice.multiplies_bfloat16(x.device)


def _unexplained(dictionary: Dictionary, x: Tensor, residual: Tensor, latents: Tensor, k: int, data: Axis) -> Tensor:
    """The share of the residual's variance, over all ranks, that the dead latents leave unexplained of these tokens."""
    predicted = _predicted(dictionary, dictionary.centred(x).detach(), latents, k)
    variance = token_mean((residual - token_mean(residual, data)).square().sum(1), data)
    error = (residual - predicted).square().sum(1).mean()
    return torch.nan_to_num(error / variance, nan=0.0, posinf=0.0)


def _predicted(dictionary: Dictionary, x: Tensor, latents: Tensor, k: int) -> Tensor:
    """What the k largest of these latents say of the residual."""
    rows, W_dec = (matrix.index_select(0, latents) for matrix in (dictionary.encoder_rows, dictionary.W_dec))
    bias = dictionary.b_enc.index_select(0, latents)
    quick = _is_quick(x)
    if quick:  # far more so where rows come in whole tiles; those that are added are never chosen
        rows, W_dec = (pad(matrix, (0, 0, 0, -len(matrix) % _TILE)) for matrix in (rows, W_dec))
        bias = pad(bias, (0, -len(bias) % _TILE), value=-torch.inf)
    # Where it is not, what is under way stays: autocast that is not enabled would end the trainer's.
    with torch.autocast(x.device.type, torch.bfloat16) if quick else nullcontext():
        code = kernels.largest(x, rows, bias, k)
        # The value is the ReLU's, the gradient the identity's.
        rectified = code.values + (code.values.relu() - code.values).detach()
        return kernels.sparse_decode(kernels.FixedCode(rectified, code.indices, code.d_sae), W_dec)
