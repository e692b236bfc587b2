"""Optimisers that the library does not have, for a TopK dictionary with unit decoder rows: what would they buy?

    signum     z ← z − γ sign(∇f(y))        y = (1 − β) z + β x        x ← x + (z − x) / t        (x is the result)
    muon       M ← β M + ∇f                 W ← W − γ · 0.2 √max(n, d) · UVᵀ of M;  biases by Adam

signum: sign descent with the averaging of Defazio et al. 2024, arXiv:2405.15682, in place of a schedule; β 0.95, as
sparsify has it. muon: Jordan et al. 2024, torch's own, scaled so that its rates are Adam's (Liu et al. 2025,
arXiv:2502.16982), and without weight decay.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sae.dictionary import Dictionary
from sae.training.optimiser import unit_rows

SIGNUM_BETA = 0.95


class Other(Protocol):
    """Moves a dictionary along the gradients that its parameters hold."""

    def descend(self, rate: float) -> None: ...

    def finish(self) -> None:
        """Leaves in the parameters what is the result."""
        ...


class _Point(NamedTuple):
    """Of a parameter: where sign descent is, and the mean of where it was."""

    z: Tensor
    x: Tensor


class Signum:
    """Sign descent, averaged; its rate is constant."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary, self._n = dictionary, 0
        self._points = {p: _Point(p.detach().clone(), p.detach().clone()) for p in dictionary.parameters()}

    @torch.no_grad()
    def descend(self, rate: float) -> None:
        self._n += 1
        for parameter, point in self._points.items():
            if parameter.grad is None:
                continue
            point.z.sub_(rate * parameter.grad.sign())
            if parameter is self._dictionary.W_dec:
                unit_rows(point.z)
            point.x.lerp_(point.z, 1 / self._n)
            parameter.copy_(torch.lerp(point.z, point.x, SIGNUM_BETA))
        unit_rows(self._dictionary.W_dec)

    @torch.no_grad()
    def finish(self) -> None:
        for parameter, point in self._points.items():
            parameter.copy_(point.x)
        unit_rows(self._dictionary.W_dec)


class Muon:
    """Orthogonalised momentum for both matrices, Adam for the biases."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        matrices, vectors = _divided(dictionary.parameters())
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.Adam(vectors, lr=1.0),
        ]

    def descend(self, rate: float) -> None:
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        unit_rows(self._dictionary.W_dec)

    def finish(self) -> None:
        """They are what they are."""


def _divided(parameters: Iterator[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    every = list(parameters)
    return [p for p in every if p.ndim == 2], [p for p in every if p.ndim == 1]


@torch.no_grad()
def keep_across(dictionary: Dictionary) -> None:
    """Removes from the gradient of decoder rows what lies along them."""
    gradient, rows = dictionary.W_dec.grad, dictionary.W_dec
    assert gradient is not None
    gradient.sub_((gradient * rows).sum(1, keepdim=True) * rows)
