"""Resampling: dead latents begin anew from what the dictionary explains worst.

Four times in the first half of a run, each dead latent takes the direction of a token's residual, drawn from the batch
with probability ∝ its squared error²: its decoder row is that direction at unit norm, its encoder row the same at a
fifth of the mean norm of the others, its bias 0, and Adam forgets it. Bricken et al. 2023, appendix "Neuron
resampling", which draws by squared loss and finds a fifth of the norm gentle enough not to disturb the others.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.core.random import numpy_generator
from sae.training.state import State

_TIMES = 4
_GENTLE = 0.2


def is_due(step: int, n_steps: int) -> bool:
    """Whether dead latents begin anew after this step: at each eighth of the run, up to its half."""
    marks = {round(n_steps * part / (2 * _TIMES)) for part in range(1, _TIMES + 1)}
    return step in marks


@torch.no_grad()
def resample(state: State, residual: Float[Tensor, "token d"], dead: Bool[Tensor, "d_sae"], seed: int) -> int:
    """Gives every dead latent a new start, in place; returns how many there were.

    Args:
        state: of the run.
        residual: of the batch, in scaled units.
        dead: which latents begin anew.
        seed: of the draw.
    """
    latents = dead.nonzero().flatten()
    n = min(len(latents), len(residual))
    if n == 0 or bool(dead.all()):
        return 0
    latents = latents[:n]
    chances = residual.double().square().sum(1).square().cpu().numpy()
    drawn = numpy_generator(seed, "resample", state.step).choice(len(residual), n, True, chances / chances.sum())
    directions = torch.nn.functional.normalize(residual[torch.from_numpy(drawn).to(residual.device)], dim=1)
    dictionary = state.dictionary
    size = dictionary.encoder_rows[~dead].norm(dim=1).mean()
    dictionary.W_dec[latents] = directions
    dictionary.encoder_rows[latents] = _GENTLE * size * directions
    dictionary.b_enc[latents] = 0
    state.tokens_since_fired[latents] = 0
    for parameter in (dictionary.W_dec, dictionary.encoder_rows, dictionary.b_enc):
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in state.optimiser.state[parameter]:
                state.optimiser.state[parameter][moment][latents] = 0
    return n
