"""The learning rate: linear warm-up, constant, linear decay to zero over the last fifth, or more of a crowded run.

Published rates (2e-4 to 3e-4) are tuned for hundreds of millions of tokens. `automatic_rate` is for 1–10 million:

    rate = 2.8e-3 · √(min(batch, 1024, 1024 · 1000 · batch · max(1, d / 128) / (d_sae · steps)) / d)

the last of the three not for relu, and by analogy not for crosscoder.

Measured on a million tokens, seed 0 (`scripts/study_defaults.py`: the README has the table); three figures are the FVU
of topk on the synthetic data / the microworld / stories.

1. A unit decoder row turns by about rate · √d radians a step, hence √d; √batch is the usual rule for Adam, up to the
   0.09 radians a step that no larger batch makes bearable. At half of it, it, and twice: .103 / .0025 / .033,
   .102 / .0024 / .032, .111 / .0030 / .034; in batches of 4,096 .116 / .0048 / .042, .109 / .0043 / .038,
   .113 / .0048 / .036; with a quarter of the tokens .155 / .0055 / .049, .131 / .0047 / .043, .134 / .0054 / .043.
2. The more latents share a batch, the fewer tokens each hears, and the noisier is its step; the longer a run, the more
   small steps are worth. So the rate goes with the root of batch / (d_sae · steps) once there are many of both; in a
   wider space more latents find something of their own.
   - Four times the latents, 976 steps, half of the rate and all of it: FVU .084 / .0019 / .020 and .087 / .0021 / .022;
     dead .11 and .42 of 2,048 on the microworld, .02 and .17 of 4,096 on stories. batchtopk on stories .020 and .022,
     dead .02 and .24; jumprelu .018 and .020. relu and gated that begin with three times l0, half of the rate (the
     microworld 0.72) and all of it, FVU / dead: relu on stories .0226 / 0 and .0216 / 0, on the microworld .0017 / .117
     and .0019 / .289; gated .0209 / .016 and .0211 / .237, .0018 / .390 and .0019 / .506 (L0 17.8 and 19.6; thresholds
     rose by half a size at most, `sae.training.levels`). relu on the known dictionary finds less with less of the rate
     (3), and keeps all of it.
   - In 244 steps: .142 / .0046 / .039 and .103 / .0053 / .035, MCC .758 and .868. With 8,192 latents in d 512 (2,048
     true directions, 244 steps of 4,096) 0.7 and all of it: FVU .082 and .076, dead .24 and .07 (no rows of the study).
   - 8,192 latents in d 512, 4,096 true directions, batches of 1,024, half of the rate and all of it (the rule's) in 488
     steps: FVU .235 and .166, dead .004 and .018; in 976 steps 0.36 and 0.72 (the rule's) of it: .112 and .078, dead
     .001 and .036 (no rows; seed 0, the data of `scripts/bench_convergence.py`).
   - Four times of both, stories, a quarter (the rule's) and all of it: .0140 and .0188, dead .002 and .19 (no rows).
   - Four times the tokens: .091 / .0017 / .0281 and .093 / .0017 / .0277. Batches of 256, 3,906 steps, a quarter (the
     rule's), a half and all of the rate of 1,024: .099 / .0021 / .032, .097 / .0019 / .031, .106 / .0022 / .033.
   - What is crowded learns its last latents while the rate falls, if it has had the time to learn the others: the fall
     is a fifth of the run times the smaller of d_sae · steps / (1000 · batch) and steps / 500, and a fifth to a half.
     FVU / dead (seed 0) of a fifth and of a half: 8,192 latents in d 512, 1,220 steps of 4,096, .0657 / .116 and .0647
     / .094 on a GPU, the half on a processor .0634 / .125; four times the latents on the synthetic data .0842 / .676
     and .0837 / .679; of a fifth, two fifths (the rule's) and a half on stories .0203 / .018, .0200 / .016 and .0201 /
     .014, on the microworld at half of the rate .0019 / .114, .0018 / .090 and .0018 / .072, at the rule's 0.72 of it
     (three seeds) a fifth .0019 / .238, two fifths .0018 / .212. 1,024 latents in 3,906 steps, half of the rate,
     synthetic FVU / MCC .0823 / .828 and .0819 / .830, microworld .0017 twice. But 244 steps of 4,096 in d 512: .0762 /
     .071 and .0791 / .089; 325 steps of 1,024 (`scripts/bench_convergence.py`): .246 and .273.
     Not where a controller narrows codes to l0, late (relu, gated and crosscoder by analogy): jumprelu, 2,048 latents,
     synthetic, MCC / F1 / dead .955 / .455 / .140 and (two fifths) .955 / .434 / .382.
3. Where a controller moves a penalty it holds as well. relu at half, it, and twice, three seeds: MCC .751, .791, .809,
   but on the microworld FVU .0027, .0024, .0036 with .002, .020, .115 of its latents dead.
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
_CROWDED_STEPS = 1000
"""Steps from which on the rate falls where there are as many latents as tokens in a batch, in a narrow space."""
_NARROW = 128
"""Width up to which it is one; beyond, latents crowd the less the wider it is."""
FALL, _LONGEST_FALL = 1 / 5, 1 / 2
"""Share of the steps in which the rate falls: where latents do not crowd, and at most."""
_PATIENT_STEPS = 500
"""Steps up to which it falls in no more of them: a short run needs its rate."""

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
    """The plateau that suits few latents and short runs, for activations of width d and `batch` tokens a step."""
    return _PER_ROOT * math.sqrt(min(batch, _LARGEST_BATCH) / d)


def crowded(d_sae: int, d: int, batch: int, n_steps: int) -> float:
    """The share of that rate which is left to so many latents in so many steps."""
    return math.sqrt(min(1.0, max(1.0, d / _NARROW) / _crowd(d_sae, batch, n_steps)))


def fall(d_sae: int, batch: int, n_steps: int) -> float:
    """The share of the steps, at the end, in which the rate falls."""
    times = min(_crowd(d_sae, batch, n_steps), n_steps / _PATIENT_STEPS)
    return min(_LONGEST_FALL, FALL * max(1.0, times))


def _crowd(d_sae: int, batch: int, n_steps: int) -> float:
    """Latents in a run, over those of a run in which they do not crowd a narrow space."""
    return d_sae * max(1, n_steps) * min(batch, _LARGEST_BATCH) / (_LARGEST_BATCH * _CROWDED_STEPS * batch)


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
            f"the defaults are measured up to {MOST_TOKENS:,} tokens; for {tokens:,} the automatic learning_rate is "
            f"extrapolated: try others too",
        )
    return ()
