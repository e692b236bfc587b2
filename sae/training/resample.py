"""Resampling: dead latents begin anew from what the dictionary explains worst.

Four times in the first half of a run, each dead latent takes the direction of a token's residual, drawn from the batch
with probability ∝ its squared error²: its decoder row is that direction at unit norm, its encoder row the same at a
fifth of the mean norm of the others, its bias 0, and Adam forgets it. Bricken et al. 2023, appendix "Neuron
resampling", which draws by squared loss and finds a fifth of the norm gentle enough not to disturb the others.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.core.random import numpy_generator
from sae.training.state import State


class Resampling(NamedTuple):
    """How dead latents begin anew."""

    times: int
    """In the first half of a run; 0: never."""
    size: float
    """Of their encoder rows, relative to the mean norm of the others."""
    seed: int
    """Of the draws."""


def is_due(how: Resampling, step: int, n_steps: int) -> bool:
    """Whether dead latents begin anew after this step: at equal distances, the last time at the run's half."""
    return step in {round(n_steps * part / (2 * how.times)) for part in range(1, how.times + 1)}


@torch.no_grad()
def resample(state: State, residual: Float[Tensor, "token d"], dead: Bool[Tensor, "d_sae"], how: Resampling) -> int:
    """Gives every dead latent a new start, in place; returns how many there were.

    Args:
        state: of the run.
        residual: of the batch, in scaled units.
        dead: which latents begin anew.
        how: size of the new rows, and the draw's seed.
    """
    latents = dead.nonzero().flatten()
    n = min(len(latents), len(residual))
    if n == 0 or bool(dead.all()):
        return 0
    latents = latents[:n]
    chances = residual.double().square().sum(1).square().cpu().numpy()
    drawn = numpy_generator(how.seed, "resample", state.step).choice(len(residual), n, True, chances / chances.sum())
    directions = torch.nn.functional.normalize(residual[torch.from_numpy(drawn).to(residual.device)], dim=1)
    dictionary = state.dictionary
    size = dictionary.encoder_rows[~dead].norm(dim=1).mean()
    dictionary.W_dec[latents] = directions
    dictionary.encoder_rows[latents] = how.size * size * directions
    dictionary.b_enc[latents] = 0
    state.tokens_since_fired[latents] = 0
    for parameter in (dictionary.W_dec, dictionary.encoder_rows, dictionary.b_enc):
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in state.optimiser.state[parameter]:
                state.optimiser.state[parameter][moment][latents] = 0
    return n
