"""One training step: loss, gradient, Adam, counters."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import WorldError
from sae.dictionary import BatchTopK, Dictionary
from sae.dictionary.scale import Scales
from sae.kernels import Code
from sae.objective import Loss, Objective, Situation
from sae.training import dead
from sae.training.controller import L0Controller
from sae.training.optimiser import descend
from sae.training.presets import Rows
from sae.training.resample import is_due, resample
from sae.training.schedule import Schedule
from sae.training.state import Batch, State, scaled

THRESHOLD_RATE = 0.02
"""Share of BatchTopK's threshold that each step's smallest selected value replaces."""


@runtime_checkable
class Term(Protocol):
    """One more term of the loss, that does not come from the batch."""

    def loss(self, dictionary: Dictionary, scales: Scales, step: int) -> Float[Tensor, ""]:
        """The weighted term, differentiable in the dictionary, which reads and writes scaled activations."""
        ...


class NoTerm:
    """Nothing more: its loss is zero."""

    def loss(self, dictionary: Dictionary, scales: Scales, step: int) -> Float[Tensor, ""]:
        return dictionary.b_dec.new_zeros(())


class Recipe(NamedTuple):
    """What stays the same from step to step."""

    objective: Objective
    schedule: Schedule
    dead_after: int
    """Tokens."""
    clip: float
    rows: Rows
    resamples: bool
    precision: torch.dtype
    seed: int
    term: Term = NoTerm()


class Stepped(NamedTuple):
    """What a step computed."""

    batch: Batch
    """In scaled units."""
    loss: Loss
    term: Float[Tensor, ""]
    """What the recipe's own term added to the loss."""
    gradient_norm: Float[Tensor, ""]
    """Before clipping."""
    n_dead: int
    """Latents that counted as dead in this step's loss."""


def step(state: State, activations: Float[Tensor, "token column"], recipe: Recipe) -> Stepped:
    """Moves the state on by one batch of activations in the units of the model.

    Raises:
        InputError: activations of another width than the run's.
        WorldError: the loss or its gradient is not finite; the state is then as it was before the step.
    """
    dictionary = state.dictionary
    batch = scaled(dictionary.config, state.scales, activations.to(state.tokens_since_fired.device))
    is_dead = dead.is_dead(state.tokens_since_fired, recipe.dead_after)
    with torch.autocast(batch.x.device.type, recipe.precision, enabled=recipe.precision != batch.x.dtype):
        situation = Situation(is_dead, state.controller.strength, state.step)
        loss = recipe.objective.loss(dictionary, batch.x, batch.target, situation)
    term = recipe.term.loss(dictionary, state.scales, state.step)
    total = loss.total + term
    _check_finite(state, batch.x, total)
    total.backward()
    norm = descend(dictionary, state.optimiser, recipe.schedule.rate(state.step), recipe.clip, recipe.rows)
    _keep_count(state, loss, len(batch.x))
    if recipe.resamples and is_due(state.step, recipe.schedule.n_steps):
        gone = dead.is_dead(state.tokens_since_fired, recipe.dead_after)
        resample(state, batch.target - loss.reconstructed.detach(), gone, recipe.seed)
    return Stepped(batch, loss, term.detach(), norm, int(is_dead.sum()))


def _keep_count(state: State, loss: Loss, n_tokens: int) -> None:
    """Counters, thresholds and the controller after a step."""
    dead.count(state.tokens_since_fired, loss.code, n_tokens)
    _follow_threshold(state.dictionary, loss.code)
    if isinstance(state.controller, L0Controller):
        state.controller = state.controller.after(float(loss.code.l0().double().mean()))
    state.step += 1
    state.n_tokens += n_tokens


@torch.no_grad()
def _follow_threshold(dictionary: Dictionary, code: Code) -> None:
    """BatchTopK's threshold follows the smallest value that was selected; it starts from the sample's, not from 0."""
    if not isinstance(dictionary.config.activation, BatchTopK):
        return
    selected = code.values.detach().flatten()
    smallest = torch.cat([selected[selected > 0], selected.new_tensor([torch.inf])]).amin()
    moved = torch.lerp(dictionary.threshold, smallest.to(dictionary.threshold), THRESHOLD_RATE)
    dictionary.threshold.copy_(torch.where(smallest.isfinite(), moved, dictionary.threshold))


def _check_finite(state: State, x: Tensor, loss: Tensor) -> None:
    if torch.isfinite(loss):
        return
    n_bad = int((~x.isfinite()).any(1).sum())
    cause = f"{n_bad} of its {len(x)} tokens are not finite" if n_bad else "the weights diverged; lower learning_rate"
    place = f"tokens {state.n_tokens} to {state.n_tokens + len(x)} of the stream"
    raise WorldError(f"the loss is {float(loss.detach())} at step {state.step} ({place}): {cause}")
