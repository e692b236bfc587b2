"""One training step: loss, gradient, Adam, counters; the same on every rank that divides the batch."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.core.errors import WorldError
from sae.dictionary import BatchTopK, Dictionary
from sae.dictionary.scale import Scales
from sae.objective import Objective, Situation
from sae.parallel import Axis, Mesh
from sae.training import dead
from sae.training.controller import L0Controller
from sae.training.optimiser import descend
from sae.training.parts import Passed, Passes, Terms, backward
from sae.training.presets import Rows
from sae.training.resample import is_due, resample
from sae.training.schedule import Schedule
from sae.training.state import Batch, State, scaled

THRESHOLD_RATE = 0.1
"""Share of BatchTopK's threshold that each step's smallest selected value replaces."""
ALONE = Mesh.alone()


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
    selection: torch.dtype | None = None
    """Precision in which latents are chosen."""
    accumulate: int = 1
    """Micro-batches a step."""
    term: Term = NoTerm()
    mesh: Mesh = ALONE
    """Its data axis divides every batch."""


class Stepped(NamedTuple):
    """What a step computed."""

    batch: Batch
    """This rank's share, in scaled units."""
    terms: Terms
    """Of the whole batch."""
    fired: Bool[Tensor, "d_sae"]
    """Latents that were active at any of its tokens."""
    gradient_norm: Float[Tensor, ""]
    """Before clipping."""
    n_dead: int
    """Latents that counted as dead in this step's loss."""


def step(state: State, activations: Float[Tensor, "token column"], recipe: Recipe) -> Stepped:
    """Moves the state on by one batch of activations in the units of the model: this rank's share of it.

    Raises:
        InputError: activations of another width than the run's, or fewer tokens than micro-batches.
        WorldError: the loss or its gradient is not finite; the state is then as it was before the step.
    """
    dictionary, data = state.dictionary, recipe.mesh.data
    assert recipe.mesh.dictionary.size == 1, "training does not divide latents"
    batch = scaled(dictionary.config, state.scales, activations.to(state.tokens_since_fired.device))
    is_dead = dead.is_dead(state.tokens_since_fired, recipe.dead_after)
    situation = Situation(is_dead, state.controller.strength, state.step, data, recipe.selection)
    term = recipe.term.loss(dictionary, state.scales, state.step)
    passed = backward(dictionary, batch, term, situation, Passes(recipe.objective, recipe.accumulate, recipe.precision))
    n_tokens = data.total(len(batch.x))
    _check_finite(state, batch.x, passed.terms.total, data)
    norm = descend(dictionary, state.optimiser, recipe.schedule.rate(state.step), recipe.clip, recipe.rows)
    _keep_count(state, passed, n_tokens)
    if recipe.resamples and is_due(state.step, recipe.schedule.n_steps):
        gone = dead.is_dead(state.tokens_since_fired, recipe.dead_after)
        residual = torch.cat(data.gather(batch.target - passed.reconstructed))
        resample(state, residual, gone, recipe.seed)
    return Stepped(batch, passed.terms, passed.fired, norm, int(is_dead.sum()))


def _keep_count(state: State, passed: Passed, n_tokens: int) -> None:
    """Counters, thresholds and the controller after a step."""
    dead.count(state.tokens_since_fired, passed.fired, n_tokens)
    _follow_threshold(state.dictionary, passed.terms)
    if isinstance(state.controller, L0Controller):
        state.controller = state.controller.after(float(passed.terms.l0))
    state.step += 1
    state.n_tokens += n_tokens


@torch.no_grad()
def _follow_threshold(dictionary: Dictionary, terms: Terms) -> None:
    """BatchTopK's threshold follows the smallest value that was selected; it starts from the sample's, not from 0."""
    if not isinstance(dictionary.config.activation, BatchTopK):
        return
    smallest = (terms.smallest / terms.n_smallest.clamp_min(1)).to(dictionary.threshold)
    moved = torch.lerp(dictionary.threshold, smallest, THRESHOLD_RATE)
    dictionary.threshold.copy_(torch.where(terms.n_smallest > 0, moved, dictionary.threshold))


def _check_finite(state: State, x: Tensor, loss: Tensor, data: Axis) -> None:
    """Every rank raises or none: the loss is the sum of all."""
    if torch.isfinite(loss):
        return
    state.optimiser.zero_grad()
    n_bad, n_tokens = data.total(int((~x.isfinite()).any(1).sum())), data.total(len(x))
    cause = f"{n_bad} of its {n_tokens} tokens are not finite" if n_bad else "the weights diverged; lower learning_rate"
    place = f"tokens {state.n_tokens} to {state.n_tokens + n_tokens} of the stream"
    raise WorldError(f"the loss is {float(loss)} at step {state.step} ({place}): {cause}")
