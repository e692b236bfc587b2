"""The learning rate: linear warm-up, constant, linear decay to zero over the last fifth.

Published rates (2e-4 to 3e-4) are tuned for hundreds of millions of tokens. `automatic_rate` is for 1–10 million:

    rate = 7e-4 · √(batch / d)

A unit decoder row turns by about rate · √d radians a step, hence √d; √batch is the usual rule for Adam. Measured
with AuxK (then without its ReLU), l0 16, on held-out tokens, as FVU / share of dead latents:

| rate | stories, d 64 | synthetic, d 128 | synthetic, d 512 | stories | synthetic, d 128 |
| | 1M tokens, batch 4096 | the same | 0.5M, batch 4096 | 1M, batch 1024 | 1M, batch 1024 |
|---|---|---|---|---|---|
| 5e-4 | .274 / 0 | .475 / 0 | | | |
| 2e-3 | .102 / 0 | .405 / 0 | .365 / 0 | | |
| 4e-3 | .072 / 0 | .332 / 0 | .258 / .005 | .045 / 0 | .229 / .002 |
| 8e-3 | .058 / 0 | .260 / 0 | .267 / .003 | .038 / .002 | .218 / .001 |
| 1.6e-2 | .054 / .001 | .239 / .002 | | | |

After 4M tokens of stories in batches of 4096: 2e-3 .051, 4e-3 .041, 8e-3 .036, 1.6e-2 .034, dead at most .003;
a batch of 1024 reaches .038 after 1M tokens. At d 512, 1.6e-2 is too high: FVU .65, 44 % dead on the way. Longer runs
and wider models are not measured; give `learning_rate` there.
(d_sae 1024, 2048 at d 512; stories: residual stream of a 260k-parameter story model.)

Those data would bear twice or three times the rule's rate. The microworld, whose full stops have norms twenty times
the other tokens', does not: after 4M tokens in batches of 4096 (d 128, d_sae 1024, with ReLU) 2e-3 gives FVU .0005,
.14 dead; 2.8e-3 .0005, .21; 5.7e-3 .0004, .42. The rule is a middle way between the two.
"""

import math
from typing import NamedTuple

_PER_ROOT = 7e-4
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


def automatic_rate(d: int, batch: int) -> float:
    """The plateau that suits runs of 1–10 million tokens, for activations of width d in batches of `batch`."""
    return min(_PER_ROOT * math.sqrt(batch / d), _HIGHEST)
