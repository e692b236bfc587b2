"""One training step: loss, gradient, Adam, counters; the same on every rank that divides the batch."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.dictionary import BatchTopK, Dictionary
from sae.dictionary.scale import Scales
from sae.kernels import AdamStep
from sae.objective import Dead, Objective, Situation
from sae.parallel import Mesh
from sae.training import dead, levels
from sae.training.controller import L0Controller
from sae.training.finite import check_gradient, check_loss
from sae.training.optimiser import descend
from sae.training.parts import Passed, Passes, Terms, backward
from sae.training.presets import Rows
from sae.training.resample import Resampling, is_due, resample
from sae.training.schedule import Schedule
from sae.training.state import Batch, State, scaled

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
    adam: AdamStep
    """Its rate is the schedule's."""
    rows: Rows
    resampling: Resampling
    threshold_rate: float
    """Share of BatchTopK's threshold that each step's smallest selected value replaces."""
    precision: torch.dtype
    selection: torch.dtype | None = None
    """Precision in which latents are chosen."""
    accumulate: int = 1
    """Micro-batches a step."""
    term: Term = NoTerm()
    mesh: Mesh = ALONE
    """Its data axis divides every batch."""
    hold_dead: bool = False
    """Whether dead latents are held back, and their thresholds sink (`sae.training.dead`)."""


class Stepped(NamedTuple):
    """What a step computed."""

    batch: Batch
    """This rank's share, in scaled units."""
    terms: Terms
    """Of the whole batch."""
    fired: Bool[Tensor, "d_sae"]
    """Latents that were active at any of its tokens."""
    gradient_norm: float
    """Before clipping."""


class Heard(NamedTuple):
    """What the host asks of the device in a step: once, when all of Adam is under way."""

    gradient_norm: float
    l0: float
    n_dead: float
    """A whole number: once the batch is counted."""


def step(state: State, activations: Float[Tensor, "token column"], recipe: Recipe) -> Stepped:
    """Moves the state on by one batch of activations in the units of the model: this rank's share of it.

    Raises:
        InputError: activations of another width than the run's, or fewer tokens than micro-batches.
        DivergedError: the loss or its gradient is not finite; the state is then as it was before the step.
    """
    dictionary, data = state.dictionary, recipe.mesh.data
    assert recipe.mesh.dictionary.size == 1, "training does not divide latents"
    batch = scaled(dictionary.config, state.scales, activations.to(state.tokens_since_fired.device, non_blocking=True))
    is_dead = dead.is_dead(state.tokens_since_fired, recipe.dead_after)
    gone = Dead(is_dead, dead.known(state.n_dead, state.tokens_since_fired, recipe.dead_after))
    situation = Situation(gone, state.controller.strength, state.step, data, recipe.selection)
    term = recipe.term.loss(dictionary, state.scales, state.step)
    passed = backward(dictionary, batch, term, situation, Passes(recipe.objective, recipe.accumulate, recipe.precision))
    n_tokens = data.total(len(batch.x))
    heard = _moved(state, batch, passed, recipe, n_tokens)
    r = levels.weight(recipe.schedule, state.step)
    if recipe.hold_dead:
        dead.hold_back(dictionary, gone)
        if r == 0:
            dead.sink(dictionary, is_dead)
    _keep_count(state, passed, heard, n_tokens, recipe)
    state.controller = levels.follow(dictionary, state.controller, r)
    if is_due(recipe.resampling, state.step, recipe.schedule.n_steps):
        residual = torch.cat(data.gather(batch.target - passed.reconstructed))
        resample(state, residual, dead.is_dead(state.tokens_since_fired, recipe.dead_after), recipe.resampling)
    return Stepped(batch, passed.terms, passed.fired, heard.gradient_norm)


def _moved(state: State, batch: Batch, passed: Passed, recipe: Recipe, n_tokens: int) -> Heard:
    """One step of Adam, if the loss and its gradient are finite."""
    place = f"step {state.step} (tokens {state.n_tokens} to {state.n_tokens + n_tokens} of the stream)"
    how = recipe.adam._replace(rate=recipe.schedule.rate(state.step))
    try:
        norm = descend(state.dictionary, state.optimiser, how, recipe.rows, passed.terms.total)
        n_dead = dead.n_dead_after(state.tokens_since_fired, passed.fired, n_tokens, recipe.dead_after)
        asked = torch.stack([norm.double(), passed.terms.l0, n_dead.double()])
        heard = Heard(*asked.tolist())
        if not math.isfinite(heard.gradient_norm):
            check_loss(passed.terms.by_name(), batch.x, place, recipe.mesh.data)
            check_gradient(norm, dict(state.dictionary.named_parameters()), place)
        state.optimiser.count_step()
    finally:
        state.optimiser.zero_grad()
    return heard


def _keep_count(state: State, passed: Passed, heard: Heard, n_tokens: int, recipe: Recipe) -> None:
    """Counters, thresholds and the controller after a step."""
    dead.count(state.tokens_since_fired, passed.fired, n_tokens)
    state.n_dead = dead.Counted(round(heard.n_dead), recipe.dead_after, state.tokens_since_fired._version)
    _follow_threshold(state.dictionary, passed.terms, recipe.threshold_rate)
    if isinstance(state.controller, L0Controller):
        state.controller = state.controller.after(heard.l0)
    state.step += 1
    state.n_tokens += n_tokens


@torch.no_grad()
def _follow_threshold(dictionary: Dictionary, terms: Terms, rate: float) -> None:
    """BatchTopK's threshold follows the smallest value that was selected; it starts from the sample's, not from 0."""
    if not isinstance(dictionary.config.activation, BatchTopK):
        return
    smallest = (terms.smallest / terms.n_smallest.clamp_min(1)).to(dictionary.threshold)
    moved = torch.lerp(dictionary.threshold, smallest, rate)
    dictionary.threshold.copy_(torch.where(terms.n_smallest > 0, moved, dictionary.threshold))
