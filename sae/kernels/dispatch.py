"""Which spelling a call goes to: the compiled one for float32 on a processor, else the one in torch.

`SAE_KERNELS` set to reference, sparse or cpu names it instead, for tests and to find a fault; cpu takes float32 only,
so other precisions still go to the one in torch.
"""

import os
from collections.abc import Sequence
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.kernels import build, cpu, reference, sparse
from sae.kernels.code import Code, FixedCode, RaggedCode
from sae.kernels.loops import AdamStep, Slot

VARIABLE = "SAE_KERNELS"
_SPELLINGS = {"reference": reference, "sparse": sparse, "cpu": cpu}


def spelling(*tensors: Tensor) -> ModuleType:
    """The module whose functions take these tensors.

    Raises:
        InputError: `SAE_KERNELS` names no spelling.
    """
    named = os.environ.get(VARIABLE)
    if named and named not in _SPELLINGS:
        raise InputError(f"{VARIABLE}={named!r}: no such kernels; there are {', '.join(_SPELLINGS)}")
    if named in ("reference", "sparse"):
        return _SPELLINGS[named]
    if any(tensor.dtype != torch.float32 or tensor.device.type != "cpu" for tensor in tensors):
        return sparse
    return cpu if named or build.library() is not None else sparse


def topk(pre: Float[Tensor, "*token d_sae"], k: int) -> FixedCode:
    """The k largest pre-activations of each token in descending order, negative ones set to zero."""
    return spelling(pre).topk(pre, k)


def encode_topk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> FixedCode:
    """TopK of the linear map of x − centre; `encoder_rows[f]` is what latent f reads.

    With a `selection` of less precision, such as bfloat16 (under autocast its own), latents are chosen in that
    precision and their values computed in the precision of x.
    """
    return spelling(x, encoder_rows, b_enc).encode_topk(x, encoder_rows, b_enc, k, centre, selection)


def largest(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> FixedCode:
    """As `encode_topk`, negative values as they are."""
    return spelling(x, encoder_rows, b_enc).largest(x, encoder_rows, b_enc, k, centre, selection)


def encode_batchtopk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
) -> RaggedCode:
    """The k · n_tokens largest pre-activations of the whole batch, of those that are positive; latents ascend."""
    return spelling(x, encoder_rows, b_enc).encode_batchtopk(x, encoder_rows, b_enc, k, centre)


def encode_threshold(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    threshold: Float[Tensor, "d_sae"] | Float[Tensor, ""] | float,
    centre: Float[Tensor, "d_in"] | None = None,
) -> RaggedCode:
    """Every pre-activation above max(threshold, 0); no gradient for the threshold."""
    return spelling(x, encoder_rows, b_enc).encode_threshold(x, encoder_rows, b_enc, threshold, centre)


def sparsify(values: Float[Tensor, "*token d_sae"]) -> RaggedCode:
    """The positive entries of a dense code; worth it where few are."""
    return spelling(values).sparsify(values)


def sparse_decode(code: Code, W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "*token d_out"]:
    """Σ_f z_f W_dec[f] for each token, without bias."""
    return spelling(code.values, W_dec).sparse_decode(code, W_dec)


def descend(slots: Sequence[Slot], how: AdamStep) -> Float[Tensor, ""]:
    """One step of Adam on all slots, in place, gradients included; returns their norm before clipping.

    Slots of unit rows lose the part of the gradient along the row first and are scaled back to unit norm last; between
    them gradients are clipped to a total norm.
    """
    return spelling(*(slot.parameter for slot in slots)).descend(slots, how)
