"""JumpReLU: z = h · H(h − θ), its gradients taken through a rectangle of width ε.

    ∂z/∂h = H(h − θ)        ∂z/∂θ = −(θ/ε) · K((h − θ)/ε)        ∂H(h − θ)/∂θ = −(1/ε) · K((h − θ)/ε)

with K(u) = 1 where |u| < ½. Rajamanoharan et al. 2024, arXiv:2407.14435, section 4. The step is of the
pre-activation h, never of z: at z every latent that is off lies at 0, which would lose the half of the rectangle
that lies below θ.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def jump(
    pre: Float[Tensor, "*token d_sae"], threshold: Float[Tensor, "d_sae"], bandwidth: float
) -> Float[Tensor, "*token d_sae"]:
    """Pre-activations where they exceed their threshold, else 0."""
    return _Jump.apply(pre, threshold, bandwidth)  # type: ignore[return-value]


def active(
    pre: Float[Tensor, "*token d_sae"], threshold: Float[Tensor, "d_sae"], bandwidth: float
) -> Float[Tensor, "*token d_sae"]:
    """1 where pre-activations exceed their threshold, else 0; only the thresholds get a gradient."""
    return _Active.apply(pre, threshold, bandwidth)  # type: ignore[return-value]


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        pre, threshold = ctx.saved_tensors
        near = _over_tokens(grad * _near(pre, threshold, ctx.bandwidth))
        return grad * (pre > threshold), (-threshold / ctx.bandwidth) * near, None


class _Active(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        pre, threshold = ctx.saved_tensors
        return None, _over_tokens(grad * _near(pre, threshold, ctx.bandwidth)) / -ctx.bandwidth, None


def _near(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return (pre - threshold).abs() < bandwidth / 2


def _over_tokens(values: Tensor) -> Tensor:
    return values.flatten(0, -2).sum(0) if values.ndim > 1 else values
