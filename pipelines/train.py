"""Stage *train*: shuffled activations through the training loop to a dictionary, with checkpoints on the way.

A run that was killed goes on from its newest whole checkpoint, to the same bits; an interrupted one writes a
checkpoint first. The untrained dictionary that the run started from is kept beside the trained one: it is the
control for everything that training is said to add.

Batches are made between steps, not ahead of them (`sae.activations.prefetch`): on the processor that does the training
a batch costs 2 to 4 % of its step (measured on one core at d 64 and 288), which is all that a second buffer could save.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.interrupts import held_back
from pipelines.stage import Inputs, Progress
from sae.activations.quality import mean_autocorrelation, shuffle_quality
from sae.activations.reader import Activations
from sae.activations.shuffle import ShuffledBatches
from sae.core.metrics import JsonLines
from sae.training import TrainConfig, begun, checkpoint, cut_back, loop, one_site, result, starts
from sae.training.initialise import Start
from sae.training.state import State

VERSION = 3
N_SAMPLE = 65_536
"""Rows of the train split from which scale and centre are taken."""

START = "start.json"
"""What was done to the activations before training; a run that resumes finds it here."""

__all__ = ["VERSION", "TrainConfig", "run"]


def run(config: TrainConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Trains on the harvest's train split; writes weights.safetensors, config.yaml, untrained/ and metrics.jsonl.

    Raises:
        InputError: the site is not in the harvest, its train split has no rows, or they cannot be trained on.
        WorldError: the loss is not finite.
    """
    assert config.site is not None, "pipelines.experiment names the site"
    activations = Activations(inputs.parents["harvest"].path)
    checkpoints = folder / "checkpoints"
    assert config.data_seed is not None
    with _shuffled(activations, config) as batches:
        state = _state(config, activations, inputs, checkpoints, progress)
        n_kept = cut_back(folder / "metrics.jsonl", state.step)
        if state.step:
            progress.say(f"resuming at step {state.step} of {config.n_steps} ({n_kept} records of metrics kept)")
        mixing = _mixing(folder / "metrics.jsonl", batches)
        _train(state, batches, config, folder, progress)
    result(state).save(folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return {
        "n_tokens": state.n_tokens,
        "n_steps": state.step,
        "epochs": state.n_tokens / batches.n_rows,
        **json.loads((folder / START).read_text(encoding="utf-8")),
        **mixing,
        **_last_record(folder / "metrics.jsonl"),
    }


def _state(
    config: TrainConfig, activations: Activations, inputs: Inputs, checkpoints: Path, progress: Progress
) -> State:
    """The newest checkpoint's state, or the first one, whose dictionary is saved as the control."""
    latest = checkpoint.latest(checkpoints, config)
    for notice in latest.notices:
        progress.say(notice)
    if latest.state is not None:
        return latest.state
    assert config.site is not None
    sample = activations.sample("train", config.site, N_SAMPLE)
    places = one_site(sample.shape[1], config.site, inputs.model_fingerprint())
    begin = starts(sample, config, places)
    progress.say(begin.source[0].words)
    (checkpoints.parent / START).write_text(json.dumps(_kept(begin.source[0]), indent=1) + "\n", encoding="utf-8")
    state = begun(begin, sample, config, places)
    result(state).save(checkpoints.parent / "untrained")
    return state


def _kept(begin: Start) -> dict[str, Any]:
    """What the manifest says of the start."""
    return {
        "scale": begin.scale,
        "scaling": begin.how,
        "gamma": begin.gamma,
        "gamma_read": begin.gamma_read,
        "sink_rows_fraction": begin.n_far / begin.n_rows,
        "scaling_words": begin.words,
    }


@contextmanager
def _shuffled(activations: Activations, config: TrainConfig) -> Iterator[ShuffledBatches]:
    assert config.site is not None
    assert config.data_seed is not None
    batches = ShuffledBatches(activations, config.site, "train", config.batch, config.data_seed)
    try:
        yield batches
    finally:
        batches.close()


def _mixing(log: Path, batches: ShuffledBatches) -> dict[str, float]:
    """How well batches are mixed: measured when a run begins and kept as step 0 of its log, else what stands there."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    first = json.loads(lines[0]) if lines else {}
    if "shuffle_quality" in first:
        return {name: value for name, value in first.items() if name != "step"}
    alike = mean_autocorrelation(batches)
    found = {
        "shuffle_quality": shuffle_quality(batches),
        "batch_mean_autocorrelation": alike.value,
        "batch_mean_autocorrelation_spread": alike.spread,
    }
    if not lines:
        with JsonLines(log) as sink:
            sink.record(0, found)
    return found


def _train(state: State, batches: ShuffledBatches, config: TrainConfig, folder: Path, progress: Progress) -> None:
    checkpoints, saved = folder / "checkpoints", state.n_tokens
    n_tokens = config.n_steps * config.batch
    with JsonLines(folder / "metrics.jsonl") as sink, held_back() as interrupts:
        for done in loop(state, batches, config):
            if done.metrics:
                sink.record(done.step, done.metrics)
                shown = {name: done.metrics[name] for name in ("fvu", "dead_window_fraction")}
                progress.update(done.n_tokens, n_tokens, "tokens", **shown)
            due = done.n_tokens - saved >= config.checkpoint_every_tokens
            if interrupts.asked or (due and done.step < config.n_steps):
                checkpoint.save(state, config, checkpoints)
                saved = done.n_tokens
            if interrupts.asked:
                progress.say(f"checkpoint written at step {state.step}")
                raise KeyboardInterrupt


def _last_record(path: Path) -> dict[str, float]:
    last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
    return {f"last_{name}": last[name] for name in ("fvu", "l0", "dead_window_fraction")}
