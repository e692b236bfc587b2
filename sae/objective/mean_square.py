"""Mean squared error that keeps nothing but its arguments for the gradient.

    L = mean (y − ŷ)²        ∂L/∂ŷ = 2 (ŷ − y) / n

Autograd's own would keep the difference beside both, another tensor of tokens × d.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def mean_square(target: Float[Tensor, "token d"], y: Float[Tensor, "token d"]) -> Float[Tensor, ""]:
    """The mean over tokens and dimensions of the squared difference."""
    error = _MeanSquare.apply(target, y)
    assert isinstance(error, Tensor)
    return error


class _MeanSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, target: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(target, y)
        return (target - y).square_().mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        target, y = ctx.saved_tensors
        grad_y = (y - target).mul_(2 * grad / y.numel())
        grad_target = grad_y.neg().to(target.dtype) if ctx.needs_input_grad[0] else None
        return grad_target, grad_y.to(y.dtype) if ctx.needs_input_grad[1] else None
