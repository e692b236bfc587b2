"""One training step: loss, gradient, Adam, counters."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import WorldError
from sae.objective import Loss, Objective
from sae.training import dead
from sae.training.optimiser import descend
from sae.training.schedule import Schedule
from sae.training.state import State


class Recipe(NamedTuple):
    """What stays the same from step to step."""

    objective: Objective
    schedule: Schedule
    dead_after: int
    """Tokens."""
    clip: float


class Stepped(NamedTuple):
    """What a step computed."""

    x: Float[Tensor, "token d"]
    """The batch in scaled units."""
    loss: Loss
    gradient_norm: Float[Tensor, ""]
    """Before clipping."""
    n_dead: int
    """Latents that counted as dead in this step's loss."""


def step(state: State, x: Float[Tensor, "token d"], recipe: Recipe) -> Stepped:
    """Moves the state on by one batch of activations in the units of the model.

    Raises:
        WorldError: the loss or its gradient is not finite; the state is then as it was before the step.
    """
    x = x.to(state.tokens_since_fired.device) * state.scale
    is_dead = dead.is_dead(state.tokens_since_fired, recipe.dead_after)
    loss = recipe.objective.loss(state.dictionary, x, is_dead)
    _check_finite(state, x, loss.total)
    loss.total.backward()
    norm = descend(state.dictionary, state.optimiser, recipe.schedule.rate(state.step), recipe.clip)
    dead.count(state.tokens_since_fired, loss.code, len(x))
    state.step += 1
    state.n_tokens += len(x)
    return Stepped(x, loss, norm, int(is_dead.sum()))


def _check_finite(state: State, x: Tensor, loss: Tensor) -> None:
    if torch.isfinite(loss):
        return
    n_bad = int((~x.isfinite()).any(1).sum())
    cause = f"{n_bad} of its {len(x)} tokens are not finite" if n_bad else "the weights diverged; lower learning_rate"
    place = f"tokens {state.n_tokens} to {state.n_tokens + len(x)} of the stream"
    raise WorldError(f"the loss is {float(loss.detach())} at step {state.step} ({place}): {cause}")
