"""Toy models of superposition, many at a time.

    h = W x        x' = ReLU(Wᵀ h + b)        L = mean over rows of Σ_i I_i (x_i − x'_i)²

x_i is uniform on [0, 1] with probability p (the density), else 0. Every instance has its density, its importances I
and weights of its own; they are trained side by side, which changes none of them, as AdamW moves each number by its own
gradient. Without the ReLU the model can do no better than the most important principal components.

Elhage et al. 2022, "Toy models of superposition", Transformer Circuits Thread.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from sae.core.config import Strict
from sae.core.errors import InputError
from sae.core.random import generator


class ToyConfig(Strict):
    """Sizes of a model, and how it is trained."""

    n_features: PositiveInt
    n_hidden: PositiveInt
    """Dimensions that the features must share."""
    output: Literal["relu", "linear"] = "relu"
    n_steps: PositiveInt = 10_000
    batch: PositiveInt = 1024
    learning_rate: PositiveFloat = 1e-3
    """Of AdamW; it falls linearly to zero over the last fifth."""
    weight_decay: float = Field(default=0.01, ge=0)
    seed: int = 0


class Toys(NamedTuple):
    """Trained models."""

    W: Float[Tensor, "instance hidden feature"]
    """Column i is the direction of feature i."""
    b: Float[Tensor, "instance feature"]
    density: Float[Tensor, "instance"]
    losses: Float[Tensor, "instance"]
    """Mean over the last rows, 100 batches of them."""

    def hidden(self, instance: int, n_rows: int, seed: int = 0) -> Float[Tensor, "row hidden"]:
        """The hidden states of new rows: what a dictionary is trained on to find the columns of W."""
        g = generator(seed, "toy rows", instance)
        x = _rows(self.density[instance : instance + 1], n_rows, self.W.shape[2], g)[0]
        return x @ self.W[instance].T


def train_toys(
    config: ToyConfig, density: Float[Tensor, "instance"], importance: Float[Tensor, "instance feature"]
) -> Toys:
    """Trains one model for every density and row of importances.

    Raises:
        InputError: a density that is no probability, or importances that are negative.
    """
    if not bool(((density > 0) & (density <= 1)).all()):
        raise InputError(f"a density lies above 0 and at most at 1, got {density.tolist()}")
    if bool((importance < 0).any()):
        raise InputError("importances are not negative")
    g = generator(config.seed, "toys")
    shape = (len(density), config.n_hidden, config.n_features)
    W = (torch.randn(shape, generator=g) * (2 / (config.n_hidden + config.n_features)) ** 0.5).requires_grad_()
    b = torch.zeros(len(density), config.n_features, requires_grad=True)
    optimiser = torch.optim.AdamW([W, b], lr=config.learning_rate, weight_decay=config.weight_decay)
    n_last = min(100, config.n_steps)
    losses = torch.zeros(len(density))
    for step in range(config.n_steps):
        x = _rows(density, config.batch, config.n_features, g)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * min(1.0, 5 * (config.n_steps - step) / config.n_steps)
        each = _losses(config, W, b, x, importance)
        optimiser.zero_grad()
        each.sum().backward()
        optimiser.step()
        if step >= config.n_steps - n_last:
            losses += each.detach() / n_last
    return Toys(W.detach(), b.detach(), density, losses)


def _rows(density: Tensor, n: int, n_features: int, g: torch.Generator) -> Float[Tensor, "instance row feature"]:
    """Where a uniform number u is below p, u / p is uniform on [0, 1] again: one draw decides both."""
    share = torch.rand(len(density), n, n_features, generator=g) / density[:, None, None]
    return share * (share < 1)


def _losses(config: ToyConfig, W: Tensor, b: Tensor, x: Tensor, importance: Tensor) -> Float[Tensor, "instance"]:
    y = (x @ W.mT) @ W + b[:, None]
    if config.output == "relu":
        y = y.relu()
    return (importance[:, None] * (x - y).square()).sum(-1).mean(-1)
