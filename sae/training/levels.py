"""The last of the way to l0: while the rate falls, biases and thresholds are shifted by what is missing.

    b ← b − δ, or θ ← θ + δ        δ = r ρ · √(d / l0) · e        e = log(L0 / l0) of the controller's running mean

1. λ acts through learning: the lower the rate, the longer what is missing stays. And codes grow sparser when the rate
   falls, since weights then shake less.
2. An active latent is of size √(d / l0) in scaled units. Were sizes distributed exponentially, that shift for rρ = 1
   would undo e at once; ρ = 0.5 undoes half of it. A million rows of the synthetic data, l0 6, with 0.05 and 0.5: relu
   ends at 6.24 and 6.01, gated at 6.33 and 6.07; on the microworld, l0 16, relu at 16.9 and 16.1 (three seeds,
   `scripts/study_defaults.py`).
3. r is 1 until a third of the rate, or fifty steps, are left, and falls to zero: the last steps average the noise of
   batches, which with r = 1 left codes 4 % off the mean of their last 50 batches (microworld, l0 16).
4. Sizes may be distributed otherwise: where few latents live, and some tokens are twenty times as long as others, no
   bias makes the codes of these sparser, and each step would ask for more. gated, 2,048 latents on the microworld, seed
   0, codes that begin with three times l0, 0.72 of the rate: b_enc sank by three sizes in 120 steps, and on, at an L0
   of 17; FVU .045. With codes that begin with l0 and half of the rate L0 was 13; b_enc rose until all that was dead
   fired, and the gate's error was 6,000 times the variance; FVU .058. So all steps together lower biases (raise
   thresholds) by two sizes at most, FVU .004, and the other way by half of one, .002. On the synthetic data, l0 6, seed
   0, relu asks for 1.2 sizes and gated for 1.9, some of its seeds for more; with one at most they end at 6.2 and 6.4.
5. All latents are shifted alike, as BatchTopK's one threshold does it (Bussmann et al. 2024, arXiv:2412.06410).
"""

import torch

from sae.dictionary import Dictionary, Gated, JumpRelu, Relu
from sae.training.controller import Controller, L0Controller
from sae.training.schedule import Schedule

_FULL_UNTIL = 1 / 3
"""Share of the rate down to which r = 1, if so many steps are left."""
_AVERAGED = 50


def weight(schedule: Schedule, step: int) -> float:
    """r of a step; 0 as long as the rate does not fall."""
    return min(1.0, schedule.left(step) / _FULL_UNTIL, (schedule.n_steps - step) / _AVERAGED)


@torch.no_grad()
def follow(dictionary: Dictionary, controller: Controller, r: float) -> Controller:
    """Shifts what decides which latents fire, in place, by what the controller asks for; returns one that knows of it.

    Args:
        dictionary: in training.
        controller: after the step.
        r: how much of what is missing is asked for now (`weight`).
    """
    if not isinstance(controller, L0Controller) or r == 0:
        return controller
    sizes = controller.shift(r)
    shift = controller.size * sizes
    match dictionary.config.activation:
        case JumpRelu():
            dictionary.threshold.add_(shift).clamp_(min=0)
        case Relu() | Gated():
            dictionary.b_enc.sub_(shift)
        case _:
            raise AssertionError("a controller moves what has a level")
    return controller.model_copy(update={"shifted": controller.shifted + sizes})
