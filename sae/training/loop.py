"""The training loop as an iterator: it yields after every step, and whoever iterates logs, saves and stops."""

import sys
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sae.kernels import AdamStep, choice, pool
from sae.objective import AuxK
from sae.parallel import Mesh, token_mean
from sae.training import dead
from sae.training.config import TrainConfig
from sae.training.presets import objective_of, rows_of
from sae.training.resample import Resampling
from sae.training.state import State
from sae.training.step import ALONE, NoTerm, Recipe, Stepped, Term, step

NO_TERM = NoTerm()
CHOSEN_COARSELY = ("topk", "batchtopk")
"""Presets that latents chosen in bfloat16 cost less than 0.1 % of FVU and no latent, on all three data; matryoshka lost
0.14 % and a latent of 1,024 on stories (scripts/study_defaults.py, group selection, the same weights read twice)."""


@runtime_checkable
class Batches(Protocol):
    """Activations by step: the same step gives the same batch, in any order, in any process."""

    def batch(self, step: int) -> Float[Tensor, "token d"]: ...


class Progress(NamedTuple):
    """Where a run is."""

    step: int
    """Steps done."""
    n_tokens: int
    metrics: dict[str, float]
    """Of the batch just seen; empty but at every `log_every_steps`-th and the last step."""


def loop(
    state: State, batches: Batches, config: TrainConfig, term: Term = NO_TERM, mesh: Mesh = ALONE
) -> Iterator[Progress]:
    """Trains from where `state` is to the end, in place; stop iterating to stop early.

    Every rank of the mesh's data axis calls it with the same state, and all end with the same bits.

    Args:
        state: where the run is.
        batches: by step, in the units of the model; this rank's share of them.
        config: the run.
        term: one more term of the loss, such as `sae.training.end_to_end`'s.
        mesh: its data axis divides every batch.

    Raises:
        DivergedError: the loss or its gradient is not finite; names the step and the part.
    """
    recipe = recipe_of(state, config, term, mesh)
    clock, clear, is_ending = _Clock(state.n_tokens), pool.clear, sys.is_finalizing
    try:
        while state.step < config.n_steps:
            done = step(state, batches.batch(state.step), recipe)
            logged = state.step % config.log_every_steps == 0 or state.step == config.n_steps
            metrics = _metrics(state, done, recipe) | clock.rate(state.n_tokens) if logged else {}
            del done  # its batch would stay beside the next one
            yield Progress(state.step, state.n_tokens, metrics)
    finally:
        if not is_ending():  # else what it would clear is gone, and so are the modules
            clear()


def recipe_of(state: State, config: TrainConfig, term: Term = NO_TERM, mesh: Mesh = ALONE) -> Recipe:
    """Objective, schedule and limits of a run."""
    d = state.dictionary.d_in
    objective, anew = objective_of(config, d), config.resample
    share = dead.RESAMPLE_SHARE if anew else dead.RUN_SHARE
    return Recipe(
        objective=objective,
        schedule=config.schedule(d),
        dead_after=dead.window(config.dead_after_tokens, config.tokens, config.batch, share),
        adam=AdamStep(0.0, config.clip, config.beta1, config.beta2, config.epsilon),
        rows=rows_of(config),
        resampling=Resampling(config.resample_times * anew, config.resample_size, config.seed or 0),
        threshold_rate=config.threshold_rate,
        precision=getattr(torch, config.precision),
        selection=selection_of(config, state.dictionary.b_dec.device),
        accumulate=config.accumulate,
        term=term,
        mesh=mesh,
        hold_dead=isinstance(objective.auxiliary, AuxK),
    )


def selection_of(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """Precision in which latents are chosen on a device; none: that of the products."""
    match config.selection:
        case "as_precision":
            return None
        case "auto":
            faster = config.preset in CHOSEN_COARSELY and choice.multiplies_bfloat16(device)
            return torch.bfloat16 if faster else None
        case named:
            return getattr(torch, named)


def _metrics(state: State, done: Stepped, recipe: Recipe) -> dict[str, float]:
    terms, data = done.terms, recipe.mesh.data
    centred = done.batch.target - token_mean(done.batch.target, data)
    variance = token_mean(centred.square(), data).mean()
    window = dead.is_dead(state.tokens_since_fired, recipe.dead_after)
    return {
        "n_tokens": float(state.n_tokens),
        "loss": float(terms.total),
        "fvu": float(terms.reconstruction / variance),
        "l0": float(terms.l0),
        "auxk": float(terms.auxiliary),
        "penalty": float(terms.penalty),
        "gate": float(terms.gate),
        "penalty_strength": state.controller.strength,
        "end_to_end": float(terms.term),
        "dead_window_fraction": float(window.double().mean()),
        "learning_rate": recipe.schedule.rate(state.step - 1),
        "gradient_norm": done.gradient_norm,
        **{f"{name}_norm": float(value.detach().norm()) for name, value in state.dictionary.named_parameters()},
    }


class _Clock:
    """Tokens a second since it was last asked."""

    def __init__(self, n_tokens: int) -> None:
        self._seen, self._time = n_tokens, time.perf_counter()

    def rate(self, n_tokens: int) -> dict[str, float]:
        now = time.perf_counter()
        rate = (n_tokens - self._seen) / max(now - self._time, 1e-9)
        self._seen, self._time = n_tokens, now
        return {"tokens_per_second": rate}
