"""The definition of correct: dense, eager, differentiated by autograd.

    h = W_enc x + b_enc        y = Σ_f z_f W_dec[f]

    TopK        z = ReLU of the k largest h of each token        Gao et al. 2024, arXiv:2406.04093, §2.3
    BatchTopK   z = the k · n_tokens largest positive h of the batch        Bussmann et al. 2024, arXiv:2412.06410, §3
    threshold   z = h where h > max(θ, 0)        inference of BatchTopK, and JumpReLU (arXiv:2407.14435, equation 4)

Among equal pre-activations the earlier token and the lower latent win here; a faster spelling of TopK may pick
another, so the law for ties is about values.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.kernels.code import Code, FixedCode, RaggedCode
from sae.kernels.loops import AdamStep, Slot
from sae.kernels.rounding import keep, widened


def topk(pre: Float[Tensor, "*token d_sae"], k: int) -> FixedCode:
    """The k largest pre-activations of each token, negative ones set to zero."""
    values, indices = pre.sort(dim=-1, descending=True, stable=True)
    return FixedCode(values[..., :k].relu(), indices[..., :k], pre.shape[-1])


def encode_topk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> FixedCode:
    """TopK of the linear map of x − centre; `encoder_rows[f]` is what latent f reads.

    With a `selection` of less precision, latents are chosen in that precision, their values computed in x's.
    """
    code = largest(x, encoder_rows, b_enc, k, centre, selection)
    return FixedCode(code.values.relu(), code.indices, code.d_sae)


def largest(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> FixedCode:
    """As `encode_topk`, negative values as they are."""
    pre, judged = _pre(x, encoder_rows, b_enc, centre, selection)
    chosen = judged.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    values, order = pre.gather(-1, chosen).sort(dim=-1, descending=True, stable=True)
    return FixedCode(values, chosen.gather(-1, order), len(encoder_rows))


def encode_batchtopk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> RaggedCode:
    """The k · n_tokens largest pre-activations of the whole batch, of those that are positive."""
    pre, judged = _pre(x, encoder_rows, b_enc, centre, selection)
    flat = judged.detach().flatten()
    best = flat.sort(descending=True, stable=True).indices[: k * (pre.numel() // len(encoder_rows))]
    kept = torch.zeros_like(flat, dtype=torch.bool).index_fill(0, best, True) & ~(flat <= 0)
    return _held(pre if pre is judged else pre.relu(), kept.view(pre.shape))


def encode_threshold(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    threshold: Float[Tensor, "d_sae"] | Float[Tensor, ""] | float,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> RaggedCode:
    """Every pre-activation above max(threshold, 0); no gradient for the threshold."""
    pre, judged = _pre(x, encoder_rows, b_enc, centre, selection)
    floor = torch.as_tensor(threshold).clamp_min(0)
    return _held(pre if pre is judged else pre * (pre > floor), ~(judged <= floor))


def above(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    floor: Float[Tensor, "d_sae"],
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> RaggedCode:
    """Every pre-activation above its floor, or no number, whatever its sign."""
    pre, judged = _pre(x, encoder_rows, b_enc, centre, selection)
    return _held(pre, ~(judged <= floor))


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
    pre, judged = _pre(x, encoder_rows, b_enc, centre, selection)
    marks = (judged > floor) & (judged <= threshold)
    return _held(pre, ~(judged <= threshold)), marks.flatten(0, -2)


def marked_sums(
    left: Float[Tensor, "token d"], rows: Float[Tensor, "d_sae d"], marks: Bool[Tensor, "token d_sae"]
) -> Float[Tensor, "d_sae"]:
    """Σ over the marked tokens of each latent of left[token] · rows[latent]; without gradient."""
    return ((left @ rows.T) * marks).sum(0).detach()


def sparsify(values: Float[Tensor, "*token d_sae"]) -> RaggedCode:
    """The positive entries of a dense code."""
    return _held(values, values > 0)


def _pre(
    x: Tensor, rows: Tensor, bias: Tensor, centre: Tensor | None, selection: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """Pre-activations, and what judges them: themselves, or the same in the precision of the selection."""
    x = x if centre is None else x - centre
    pre, kind = x @ rows.T + bias, selection or x.dtype
    return pre, pre if kind == x.dtype else (x.to(kind) @ rows.to(kind).T).to(x.dtype) + bias


def _held(values: Float[Tensor, "*token d_sae"], kept: Bool[Tensor, "*token d_sae"]) -> RaggedCode:
    d_sae = values.shape[-1]
    counts = kept.reshape(-1, d_sae).sum(1)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return RaggedCode(values[kept], kept.nonzero()[:, -1], starts, tuple(values.shape[:-1]), d_sae)


def sparse_decode(code: Code, W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "*token d_out"]:
    """Σ_f z_f W_dec[f] for each token, without bias."""
    return code.dense() @ W_dec


def descend(slots: Sequence[Slot], how: AdamStep) -> Float[Tensor, ""]:
    """One step of Adam on all slots, in place; returns the gradients' norm before clipping.

    Slots of unit rows lose the part of the gradient along the row first (Bricken et al. 2023, "Towards
    monosemanticity", appendix) and are scaled back to unit norm last; between them gradients are clipped to a total
    norm. Where that is not finite, nothing moves.
    """
    gradients = [
        s.gradient - (s.gradient * s.parameter).sum(1, keepdim=True) * s.parameter if s.unit else s.gradient
        for s in slots
    ]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    if not torch.isfinite(norm):
        return norm
    scale = (how.clip / (norm + 1e-6)).clamp_max(1.0)
    for slot, gradient in zip(slots, gradients, strict=True):
        clipped, wide = gradient * scale, widened(slot)
        wide.mean.copy_(how.beta1 * wide.mean + (1 - how.beta1) * clipped)
        wide.square.copy_(how.beta2 * wide.square + (1 - how.beta2) * clipped**2)
        keep(slot, wide)
        mean = wide.mean / (1 - how.beta1**slot.n_steps)
        square = wide.square / (1 - how.beta2**slot.n_steps)
        slot.parameter.sub_(how.rate * mean / (square.sqrt() + how.epsilon))
        if slot.unit:
            slot.parameter.div_(slot.parameter.norm(dim=1, keepdim=True))
    return norm
