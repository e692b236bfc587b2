"""The learning rate: linear warm-up, constant, linear decay to zero over the last fifth.

Published rates (2e-4 to 3e-4) are tuned for hundreds of millions of tokens. `automatic_rate` is for 1–10 million:

    rate = 2.8e-3 · √(batch / d)          7e-4 · √(batch / d) where a controller moves a penalty until l0 is reached

A unit decoder row turns by about rate · √d radians a step, hence √d; √batch is the usual rule for Adam. What it bears
depends on what becomes of dead latents (`sae.training.dead`): before they were held back four times less was the most
that the synthetic data bore. `scripts/study_defaults.py` measures it, the README has the table. Controllers are tuned
for the lower rate; above it relu leaves more latents dead.
"""

import math
from typing import NamedTuple

_PER_ROOT = 2.8e-3
_CONTROLLED_PER_ROOT = 7e-4
_HIGHEST = 2e-2
"""Above it latents die faster than AuxK revives them (0.03: 16 % dead on stories, with AuxK)."""


class Schedule(NamedTuple):
    """Learning rate as a function of the step."""

    peak: float
    """Rate of the plateau."""
    n_steps: int
    warmup_fraction: float
    decay_fraction: float

    def rate(self, step: int) -> float:
        """The rate of step 0, 1, …, n_steps − 1; never zero, so that no step is wasted."""
        rising = (step + 1) / max(1.0, self.warmup_fraction * self.n_steps)
        falling = (self.n_steps - step) / max(1.0, self.decay_fraction * self.n_steps)
        return self.peak * min(1.0, rising, falling)

    def left(self, step: int) -> float:
        """The share of the plateau's rate that is left where the rate falls; 0 before."""
        falling = (self.n_steps - step) / max(1.0, self.decay_fraction * self.n_steps)
        return falling if falling < 1 else 0.0


def automatic_rate(d: int, batch: int, controlled: bool = False) -> float:
    """The plateau that suits runs of 1–10 million tokens.

    Args:
        d: width of the activations.
        batch: tokens a step.
        controlled: whether a controller moves a penalty.
    """
    return min((_CONTROLLED_PER_ROOT if controlled else _PER_ROOT) * math.sqrt(batch / d), _HIGHEST)
