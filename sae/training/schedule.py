"""The learning rate: linear warm-up, constant, linear decay to zero over the last fifth.

Published rates (2e-4 to 3e-4) are tuned for hundreds of millions of tokens. `automatic_rate` is for 1–10 million:

    rate = 2.8e-3 · √(min(batch, 1024) / d)

Measured on a million tokens, seed 0 (`scripts/study_defaults.py`: the README has the table); three figures are the FVU
of topk on the synthetic data / the microworld / stories.

1. A unit decoder row turns by about rate · √d radians a step, hence √d; √batch is the usual rule for Adam, up to the
   0.09 radians a step that no larger batch makes bearable. At half of it, it, and twice: .103 / .0025 / .033,
   .102 / .0024 / .032, .111 / .0030 / .034; in batches of 256 .099 / .0021 / .032, .097 / .0019 / .031,
   .106 / .0022 / .033; of 4,096 .116 / .0048 / .042, .109 / .0043 / .038, .113 / .0048 / .036.
2. It is right for a quarter of the length (.155 / .0055 / .049, .131 / .0047 / .043, .134 / .0054 / .043) and for four
   times of it (.091 / .0017 / .0281, .093 / .0017 / .0277, .106 / .0026 / .030). With four times the latents half of
   it is better (.084 / .0019 / .020 beside .087 / .0021 / .022) and kills fewer (.15 of 2,048 on the microworld beside
   .40, .01 of 4,096 on stories beside .17). But with 8,192 latents in d 512 a third of it leaves .21 where it leaves
   .077, after 244 steps (no rows of the study): how many latents there are is not in the rule.
3. Where a controller moves a penalty it holds as well. relu on the synthetic data at half, it, and twice: MCC .735,
   .798, .854, but on the microworld FVU .0026, .0023, .0032 with .0, .01, .08 of its latents dead.
4. Thresholds that count what fires (jumprelu) swing when they are quick, and a short run has no time to calm them:
   after 200 steps of synthetic data l0 was 5 to 7 % too small with this rate, 2 to 4 % with half of it; after 976 it
   was within 1 % (with Adam's 0.9 and 0.999). So their rate is also √(steps / 1000) of it, where that is less.
5. Adam forgets soon: β₁ 0.7, β₂ 0.95, after a warm-up of a hundredth of the run. A run has some hundred or thousand
   steps, and its gradients fall by orders of magnitude on the way; with 0.9, 0.999 and a twentieth, the first steps'
   squares hold the later ones back. FVU before and after: topk .112 → .102, .0033 → .0024, .037 → .032; batchtopk
   .083 → .067, .0036 → .0022, .038 → .029; matryoshka .109 → .082, .0094 → .0045, .054 → .043.

`caution` says where a run is outside of what was measured.
"""

import math
from typing import NamedTuple

_PER_ROOT = 2.8e-3
_CALM_STEPS = 1000
"""Steps from which on thresholds bear the whole rate."""
_LARGEST_BATCH = 1024
"""Tokens from which on a larger batch bears no higher rate."""

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


def automatic_rate(d: int, batch: int) -> float:
    """The plateau that suits runs of 1–10 million tokens, for activations of width d and `batch` tokens a step."""
    return _PER_ROOT * math.sqrt(min(batch, _LARGEST_BATCH) / d)


def calmed(n_steps: int) -> float:
    """The share of the rate that is left to a run of so many steps whose thresholds count what fires."""
    return min(1.0, math.sqrt(n_steps / _CALM_STEPS))


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
