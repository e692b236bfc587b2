"""Sparse combinations of known directions, with frequencies that fall as a power of their rank, and noise.

    x = Σ_f a_f D[f] + σ n        a_f = b_f · u_f,  b_f ~ Bernoulli(p_f),  p_f ∝ (f + 1)^(−α),  u_f ~ U[½, 3/2]

Directions are random unit vectors; Σ_f p_f is the mean number of active ones. After Sharkey et al. 2022, "Taking
features out of superposition with sparse autoencoders".
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae.core.config import Strict
from sae.core.errors import InputError
from sae.core.random import generator


class SyntheticConfig(Strict):
    """Sizes and statistics of the data."""

    d: int = Field(ge=1)
    """Width of the activations."""
    n_directions: int = Field(ge=1)
    """Number of true directions."""
    l0: float = Field(gt=0)
    """Mean number of active directions a token."""
    zipf: float = Field(default=0.5, ge=0)
    """Exponent α by which frequency falls with rank; 0: all equally frequent."""
    noise: float = Field(default=0.0, ge=0)
    """Standard deviation of the noise in every dimension, where active directions have mean length 1."""
    seed: int = 0
    """Seed of the directions and the data."""


class Synthetic:
    """The data: `directions`, `frequencies`, and tokens of any step.

    Raises:
        InputError: `l0` cannot be reached: a direction would be active with a probability above 1.
    """

    def __init__(self, config: SyntheticConfig, batch: int = 4096) -> None:
        self.config = config
        self._batch = batch
        rows = torch.randn(config.n_directions, config.d, generator=generator(config.seed, "directions"))
        self.directions: Float[Tensor, "n d"] = torch.nn.functional.normalize(rows, dim=1)
        weights = torch.arange(1, config.n_directions + 1, dtype=torch.float64) ** -config.zipf
        self.frequencies: Float[Tensor, "n"] = (config.l0 * weights / weights.sum()).float()
        if self.frequencies[0] > 1:
            raise InputError(f"l0 {config.l0} is too large for {config.n_directions} directions at zipf {config.zipf}")

    def codes(self, step: int) -> Float[Tensor, "token n"]:
        """The true activations of the tokens of a step."""
        g = generator(self.config.seed, "codes", step)
        size = (self._batch, len(self.directions))
        active = torch.rand(size, generator=g) < self.frequencies
        return active * (0.5 + torch.rand(size, generator=g))

    def batch(self, step: int) -> Float[Tensor, "token d"]:
        """The tokens of a step: the same for the same step."""
        noise = torch.randn(self._batch, self.config.d, generator=generator(self.config.seed, "noise", step))
        return self.codes(step) @ self.directions + self.config.noise * noise
