"""The functions of `sae.kernels`: each goes to the spelling that takes its tensors (`sae.kernels.choice`).

While `torch.compile` traces, they go to operators of torch, which make that choice when they run.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.kernels import traced
from sae.kernels.checks import check_k, check_linear, check_slot
from sae.kernels.choice import chosen
from sae.kernels.code import Code, FixedCode, RaggedCode
from sae.kernels.loops import AdamStep, Slot


def spelling(*tensors: Tensor) -> ModuleType:
    """The module whose functions take these tensors; raises as `chosen` does."""
    return traced if torch.compiler.is_compiling() else chosen(*tensors)


def topk(pre: Float[Tensor, "*token d_sae"], k: int) -> FixedCode:
    """The k largest pre-activations of each token in descending order, negative ones set to zero."""
    check_k("topk", k, pre.shape[-1])
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
    check_linear(x, encoder_rows, b_enc, centre, selection)
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
    check_linear(x, encoder_rows, b_enc, centre, selection)
    return spelling(x, encoder_rows, b_enc).largest(x, encoder_rows, b_enc, k, centre, selection)


def encode_batchtopk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> RaggedCode:
    """The k · n_tokens largest pre-activations of the whole batch, of those that are positive; latents ascend.

    `selection` as in `encode_topk`; what it takes for positive may have a value of zero.
    """
    check_linear(x, encoder_rows, b_enc, centre, selection)
    check_k("encode_batchtopk", k)
    return spelling(x, encoder_rows, b_enc).encode_batchtopk(x, encoder_rows, b_enc, k, centre, selection)


def encode_threshold(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    threshold: Float[Tensor, "d_sae"] | Float[Tensor, ""] | float,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> RaggedCode:
    """Every pre-activation above max(threshold, 0); no gradient for the threshold.

    `selection` as in `encode_topk`; what it takes for larger may have a value of zero.
    """
    check_linear(x, encoder_rows, b_enc, centre, selection, threshold)
    return spelling(x, encoder_rows, b_enc).encode_threshold(x, encoder_rows, b_enc, threshold, centre, selection)


def above(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    floor: Float[Tensor, "d_sae"],
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> RaggedCode:
    """Every pre-activation above its floor, as `selection` sees it, or no number, whatever its sign; latents ascend."""
    check_linear(x, encoder_rows, b_enc, centre, selection, floor.reshape(-1))
    return spelling(x, encoder_rows, b_enc).above(x, encoder_rows, b_enc, floor, centre, selection)


def above_and_between(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    floor: Float[Tensor, "d_sae"],
    threshold: Float[Tensor, "d_sae"],
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> tuple[RaggedCode, Bool[Tensor, "token d_sae"]]:
    """As `above` the threshold; and which pre-activations lie above the floor, but not above the threshold."""
    for levels in (floor, threshold):
        check_linear(x, encoder_rows, b_enc, centre, selection, levels.reshape(-1))
    kernels = chosen(x, encoder_rows, b_enc)
    return kernels.above_and_between(x, encoder_rows, b_enc, floor, threshold, centre, selection)


def marked_sums(
    left: Float[Tensor, "token d"], rows: Float[Tensor, "d_sae d"], marks: Bool[Tensor, "token d_sae"]
) -> Float[Tensor, "d_sae"]:
    """Σ over the marked tokens of each latent of left[token] · rows[latent]; without gradient."""
    return chosen(left, rows).marked_sums(left, rows, marks)


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
    for slot in slots:
        check_slot(slot.parameter, slot.gradient, slot.mean, slot.square)
    return spelling(*(slot.parameter for slot in slots)).descend(slots, how)
