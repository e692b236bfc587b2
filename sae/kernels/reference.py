"""The definition of correct: dense, eager, differentiated by autograd.

    h = W_enc x + b_enc        z = ReLU(TopK(h, k))        y = Σ_f z_f W_dec[f]

Gao et al. 2024, arXiv:2406.04093, §2.3. Among equal pre-activations the lower latent wins here; a faster spelling
may pick another, so the law for ties is about values.
"""

from jaxtyping import Float
from torch import Tensor

from sae.kernels.code import Code, FixedCode


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


def sparse_decode(code: Code, W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "*token d_out"]:
    """Σ_f z_f W_dec[f] for each token, without bias."""
    return code.dense() @ W_dec
