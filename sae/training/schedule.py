"""The learning rate: linear warm-up, constant, linear decay to zero over the last fifth.

Published rates (2e-4 to 3e-4) are tuned for hundreds of millions of tokens. `automatic_rate` is for 1–10 million:

    rate = 2.8e-3 · √(min(batch, 1024) / d)      7e-4 · √(batch / d), at most 2e-2, where a controller moves a penalty

1. A unit decoder row turns by about rate · √d radians a step, hence √d; √batch is the usual rule for Adam, up to the
   0.09 radians a step that no larger batch makes bearable: on the microworld (d 128, d_sae 512, l0 16, 4M tokens in
   batches of 4096) 4e-3 gives FVU .0036 with no latent dead, 8e-3 .0031 / .002, 1.6e-2 .0035 / .039.
2. What a rate does depends on what becomes of dead latents (`sae.training.dead`): before they were held back, the
   synthetic data bore only half of it. `scripts/study_defaults.py` measures it, the README has the table.
3. Controllers are tuned for the lower rate; at a higher one relu leaves more latents dead.

`caution` says where a run is outside of what was measured.
"""

import math
from typing import NamedTuple

_PER_ROOT = 2.8e-3
_CONTROLLED_PER_ROOT = 7e-4
_LARGEST_BATCH = 1024
"""Tokens from which on a larger batch bears no higher rate."""
_CONTROLLED_HIGHEST = 2e-2

FEWEST_STEPS = 250
"""Of the shortest runs that defaults were chosen for; l0 and dead latents need some hundred."""
MOST_TOKENS = 10_000_000
"""Of the longest."""


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
    if controlled:
        return min(_CONTROLLED_PER_ROOT * math.sqrt(batch / d), _CONTROLLED_HIGHEST)
    return _PER_ROOT * math.sqrt(min(batch, _LARGEST_BATCH) / d)


def caution(n_steps: int, tokens: int) -> tuple[str, ...]:
    """Why the defaults may not suit a run; nothing where they were chosen for its length, or it is not trained."""
    if 0 < n_steps < FEWEST_STEPS:
        few = f"{n_steps} steps are fewer than the {FEWEST_STEPS} that the defaults need to learn and to reach l0"
        return (f"{few}: raise tokens, or lower batch",)
    if tokens > MOST_TOKENS and n_steps:
        return (
            f"the defaults are measured up to {MOST_TOKENS:,} tokens; for {tokens:,} try a lower learning_rate too",
        )
    return ()
