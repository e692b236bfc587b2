"""What training will take, from a few real steps of the same dictionary on the activations of a sample.

P = (d_in + d_out) · F + F + d_out numbers are trained, and a few more where an activation has its own. Memory holds
four of each in float32 (weight, gradient, Adam's two moments), which is counted before anything is made; then steps
are timed, beginning with the second, and one checkpoint. Steps with dead latents cost more (AuxK); how many there will
be is not known beforehand, so a few more are timed in which all count as dead but those that have just fired.
"""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from pipelines import capacity
from pipelines.training_sites import TrainingSites
from sae.activations.columns import ColumnBatches, Columns
from sae.activations.encoding import STORED, width
from sae.activations.shuffle import BUFFER_ROWS
from sae.core.config import Strict
from sae.dictionary import Dictionary
from sae.training import checkpoint, initial, loop
from sae.training.config import TrainConfig
from sae.training.loop import Progress
from sae.training.presets import dictionary_of
from sae.training.state import State

SECONDS_STEPPING = 1.5
_N_SAMPLE = 65_536
_FLOAT = 4
_COPIES_IN_MEMORY = 4
_COPIES_IN_CHECKPOINT = 4
_CHECKPOINTS_AT_ONCE = 3
_BYTES_PER_RECORD = 400
_BYTES_PER_ROW_IN_ORDER = 24
"""Permutation, document and position of every row."""


class TrainPlan(Strict):
    """A training run that has not been made."""

    n_tokens: int
    n_parameters: int
    bytes_on_disk: int
    """Of the dictionary and of the untrained one beside it."""
    bytes_while_running: int
    """With checkpoints."""
    peak_bytes: int
    """Of the whole process."""
    seconds: float | None
    """With no dead latents; None where it was not measured, because it does not fit."""
    seconds_at_most: float | None
    """Were all latents dead at every step but those that have just fired."""


def least_plan(config: TrainConfig, sites: TrainingSites, n_rows: int) -> TrainPlan:
    """What follows from sizes alone.

    Args:
        config: the run.
        sites: that it reads and writes.
        n_rows: of the train split.
    """
    with torch.device("meta"):
        n = sum(p.numel() for p in Dictionary(dictionary_of(config, sites.places)).parameters())
    records = math.ceil(config.n_steps / config.log_every_steps) * _BYTES_PER_RECORD
    kept = 2 * n * _FLOAT + records
    buffer = min(n_rows, BUFFER_ROWS) * row_bytes(sites.columns) + n_rows * _BYTES_PER_ROW_IN_ORDER
    return TrainPlan(
        n_tokens=config.n_steps * config.batch,
        n_parameters=n,
        bytes_on_disk=kept,
        bytes_while_running=kept + _CHECKPOINTS_AT_ONCE * _COPIES_IN_CHECKPOINT * n * _FLOAT,
        peak_bytes=_COPIES_IN_MEMORY * n * _FLOAT + buffer,
        seconds=None,
        seconds_at_most=None,
    )


def peak_together(plans: Sequence[TrainPlan]) -> int:
    """Memory of members side by side: the largest one, and weights, gradients and moments of the others."""
    if not plans:
        return 0
    largest = max(plans, key=lambda plan: plan.peak_bytes)
    others = sum(plan.n_parameters for plan in plans) - largest.n_parameters
    return largest.peak_bytes + _COPIES_IN_MEMORY * _FLOAT * others


def row_bytes(columns: Columns) -> int:
    """Bytes of a stored row of all columns."""
    return sum(
        width(column.d, column.activations.dtype) * STORED[column.activations.dtype].itemsize
        for column in columns.columns
    )


def plan_train(config: TrainConfig, sites: TrainingSites, n_rows: int, folder: Path) -> TrainPlan:
    """Measures for some seconds.

    Args:
        config: the run.
        sites: that it reads and writes, of a sample or of what is trained on.
        n_rows: of the train split that will be trained on.
        folder: where a checkpoint may be written.
    """
    least, columns = least_plan(config, sites, n_rows), sites.columns
    capacity.forget_peak()
    before = capacity.resident_bytes()
    start = time.perf_counter()
    sample = columns.sample("train", _N_SAMPLE)
    state = initial(sample, config, sites.places)
    seconds_starting = (time.perf_counter() - start) * min(_N_SAMPLE, n_rows) / len(sample)
    del sample
    steps = _time_steps(state, config, columns)
    start = time.perf_counter()
    checkpoint.save(state, config, folder)
    n_checkpoints = config.n_steps * config.batch // config.checkpoint_every_tokens
    beside_steps = seconds_starting + (time.perf_counter() - start) * n_checkpoints
    missing = n_rows - columns.n_rows("train")
    buffer = (min(n_rows, BUFFER_ROWS) - min(columns.n_rows("train"), BUFFER_ROWS)) * row_bytes(columns)
    measured = capacity.peak_bytes() + buffer + missing * _BYTES_PER_ROW_IN_ORDER
    return least.model_copy(
        update={
            "peak_bytes": max(measured, least.peak_bytes + before),
            "seconds": beside_steps + config.n_steps * steps.alive,
            "seconds_at_most": beside_steps + config.n_steps * max(steps.alive, steps.dead),
        }
    )


class _StepSeconds(NamedTuple):
    alive: float
    dead: float


def _time_steps(state: State, config: TrainConfig, columns: Columns) -> _StepSeconds:
    """Seconds of a step without dead latents, and of one with as many as there can be; the state is moved on."""
    if not config.n_steps:
        return _StepSeconds(0.0, 0.0)
    batches = ColumnBatches(columns, "train", config.batch, config.data_seed or 0)
    steps = loop(state, batches, config)
    begun = time.perf_counter()
    next(steps)
    first = time.perf_counter() - begun
    alive = _mean_seconds(steps, SECONDS_STEPPING) or first
    state.tokens_since_fired.fill_(config.n_steps * config.batch)
    dead = _mean_seconds(steps, SECONDS_STEPPING / 2) or alive
    batches.close()
    return _StepSeconds(alive, dead)


def _mean_seconds(steps: Iterator[Progress], seconds: float) -> float:
    """Of the steps that begin within so many seconds; 0 where none is left."""
    start = passed = time.perf_counter()
    n = 0
    for _ in steps:
        n, passed = n + 1, time.perf_counter()
        if passed - start > seconds:
            break
    return (passed - start) / max(1, n)
