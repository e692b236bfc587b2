"""The definition of correct: dense, eager, differentiated by autograd.

    h = W_enc x + b_enc        y = Σ_f z_f W_dec[f]

    TopK        z = ReLU of the k largest h of each token        Gao et al. 2024, arXiv:2406.04093, §2.3
    BatchTopK   z = the k · n_tokens largest positive h of the batch        Bussmann et al. 2024, arXiv:2412.06410, §3
    threshold   z = h where h > max(θ, 0)        inference of BatchTopK, and JumpReLU (arXiv:2407.14435, equation 4)

Among equal pre-activations the earlier token and the lower latent win here; a faster spelling of TopK may pick
another, so the law for ties is about values.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.kernels.code import Code, FixedCode, RaggedCode


def topk(pre: Float[Tensor, "*token d_sae"], k: int) -> FixedCode:
    """The k largest pre-activations of each token, negative ones set to zero."""
    values, indices = pre.sort(dim=-1, descending=True, stable=True)
    return FixedCode(values[..., :k].relu(), indices[..., :k], pre.shape[-1])


def encode_topk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
) -> FixedCode:
    """TopK of the linear map; `encoder_rows[f]` is what latent f reads."""
    return topk(x @ encoder_rows.T + b_enc, k)


def largest(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
) -> FixedCode:
    """The k largest pre-activations of each token, negative ones as they are."""
    values, indices = (x @ encoder_rows.T + b_enc).sort(dim=-1, descending=True, stable=True)
    return FixedCode(values[..., :k], indices[..., :k], len(encoder_rows))


def encode_batchtopk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
) -> RaggedCode:
    """The k · n_tokens largest pre-activations of the whole batch, of those that are positive."""
    pre = x @ encoder_rows.T + b_enc
    flat = pre.detach().flatten()
    best = flat.sort(descending=True, stable=True).indices[: k * (pre.numel() // len(encoder_rows))]
    kept = torch.zeros_like(flat, dtype=torch.bool).index_fill(0, best, True) & (flat > 0)
    return _held(pre, kept.view(pre.shape))


def encode_threshold(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    threshold: Float[Tensor, "d_sae"] | Float[Tensor, ""] | float,
) -> RaggedCode:
    """Every pre-activation above max(threshold, 0); no gradient for the threshold."""
    pre = x @ encoder_rows.T + b_enc
    return _held(pre, pre > torch.as_tensor(threshold).clamp_min(0))


def sparsify(values: Float[Tensor, "*token d_sae"]) -> RaggedCode:
    """The positive entries of a dense code."""
    return _held(values, values > 0)


def _held(values: Float[Tensor, "*token d_sae"], kept: Bool[Tensor, "*token d_sae"]) -> RaggedCode:
    d_sae = values.shape[-1]
    counts = kept.reshape(-1, d_sae).sum(1)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return RaggedCode(values[kept], kept.nonzero()[:, -1], starts, tuple(values.shape[:-1]), d_sae)


def sparse_decode(code: Code, W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "*token d_out"]:
    """Σ_f z_f W_dec[f] for each token, without bias."""
    return code.dense() @ W_dec
