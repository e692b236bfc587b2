"""Pre-activations near their threshold that do not fire: a mark each instead of a pair of value zero.

JumpReLU's rectangle gives a threshold a gradient wherever a pre-activation is near it (`sae.dictionary.jumprelu`), and
where it is wide these are a third of all. None of them is active, so all that they take part in is

    ∂L/∂θ_f = −(θ_f/ε) Σ_t m_tf (∂L/∂y_t · W_dec[f])        ∂ Σ steps/∂θ_f = −(1/ε) Σ_t m_tf

with marks m: one more whole product, whose sums are kept and not the product.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from sae import kernels


class Near(NamedTuple):
    """Marks of a batch, and the thresholds that they belong to."""

    marks: Bool[Tensor, "token d_sae"]
    threshold: Float[Tensor, "d_sae"]
    bandwidth: float

    def heard(self, y: Float[Tensor, "*token d_out"], W_dec: Float[Tensor, "d_sae d_out"]) -> Tensor:
        """y, decoded from the code; its gradient reaches the thresholds too."""
        return _Heard.apply(y, self.threshold, W_dec, self.marks, self.bandwidth)  # type: ignore[return-value]

    def steps(self) -> Float[Tensor, ""]:
        """The sum of the steps of all that is marked: zero, with its gradient."""
        return _Steps.apply(self.threshold, self.marks, self.bandwidth)  # type: ignore[return-value]


class _Heard(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, y: Tensor, threshold: Tensor, W_dec: Tensor, marks: Tensor, bandwidth: float
    ) -> Tensor:
        ctx.save_for_backward(threshold, W_dec, marks)
        ctx.bandwidth = bandwidth
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        threshold, W_dec, marks = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return grad, None, None, None, None
        sums = kernels.marked_sums(grad.reshape(-1, grad.shape[-1]).contiguous(), W_dec, marks)
        return grad, (-threshold / ctx.bandwidth) * sums, None, None, None


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, threshold: Tensor, marks: Tensor, bandwidth: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(threshold, marks)
        ctx.bandwidth = bandwidth
        return threshold.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        threshold, marks = ctx.saved_tensors
        return grad * marks.sum(0).to(threshold.dtype) / -ctx.bandwidth, None, None
