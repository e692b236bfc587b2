"""Stage *train*: shuffled activations through the training loop to dictionaries, with checkpoints on the way.

A run that was killed goes on from its newest whole checkpoint, to the same bits; an interrupted one writes a
checkpoint first. The untrained dictionary that the run started from is kept beside the trained one: it is the
control for everything that training is said to add.

Members of a sweep that see the same batches are trained side by side, and each batch is read once. Each of them has its
own folder, log and checkpoints, and ends with the bits that it has alone.

For a GPU batches are made ahead, in pinned memory (`sae.activations.prefetch`). On a processor that does the training
itself they are made between steps: a batch costs 2 to 4 % of its step (measured on one core at d 64 and 288), which is
all that a second buffer could save.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import torch
from torch import Tensor

from pipelines.interrupts import held_back
from pipelines.stage import Inputs, Progress
from pipelines.training_follower import Follower, begun_on
from pipelines.training_run import Job, Samples, TrainingRun
from pipelines.training_sites import training_sites
from pipelines.wandb_log import check_wandb
from sae.activations.columns import ColumnBatches, Columns
from sae.activations.prefetch import Prefetched
from sae.activations.quality import mean_autocorrelation, shuffle_quality
from sae.activations.reader import Activations
from sae.activations.shuffle import ALONE, Reader
from sae.activations.text_windows import TextWindows
from sae.core.artifact import Artifact, damaged_files
from sae.core.errors import InputError, WorldError
from sae.dictionary.sites import splice_sites
from sae.parallel import Mesh, device_of
from sae.training import Batches, Failed, Moved, Places, Run, TrainConfig, side_by_side
from sae.training.end_to_end import EndToEnd
from sae.training.finite import DivergedError
from sae.training.presets import dictionary_of
from sae.training.run import N_SAMPLE
from sae.training.step import NoTerm, Term

VERSION = 18
N_VALIDATION = 8_192
"""Rows of the validation split on which a run is validated."""

ONE_PROCESS = Mesh.alone()

__all__ = ["VERSION", "Finished", "Job", "TrainConfig", "run", "stream_of", "together"]


class Finished(NamedTuple):
    """A member that is trained: its place among the jobs, and its metrics."""

    number: int
    metrics: dict[str, Any]


def run(config: TrainConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Trains on the harvest's train split; writes weights.safetensors, config.yaml, untrained/ and metrics.jsonl.

    Raises:
        InputError: the site is not in the harvest, its train split has no rows or less than a batch, or they cannot be
            trained on.
        WorldError: the loss is not finite.
    """
    (finished,) = together([Job(config, folder, progress)], inputs, progress)
    return finished.metrics


def stream_of(config: TrainConfig) -> tuple[Any, ...]:
    """What decides which batches a run sees; runs in which it is equal are trained on one pass."""
    sites = (config.preset == "crosscoder", config.site, config.target, config.beside)
    return (*sites, config.batch, config.data_seed)


def together(jobs: Sequence[Job], inputs: Inputs, progress: Progress, mesh: Mesh = ONE_PROCESS) -> Iterator[Finished]:
    """Trains dictionaries that see the same batches side by side; yields each when it is done.

    Every rank of the mesh calls it with the same jobs and reads its share of every batch; rank 0 alone writes.

    Raises:
        InputError: as `run` does.
        WorldError: the loss of some members is not finite; raised once the others are done.
    """
    config = jobs[0].config
    assert all(stream_of(job.config) == stream_of(config) for job in jobs)
    check_wandb(config)
    device = device_of(config.device)
    if mesh.data.rank == 0:
        _check_whole(inputs.parents["harvest"])
    activations = Activations(inputs.parents["harvest"].path)
    columns, places = training_sites(config, activations, inputs.model_fingerprint())
    reader = Reader(mesh.data.rank, mesh.data.size, read_ahead=device.type != "cpu")
    with _shuffled(columns, config, reader) as batches:
        members: list[TrainingRun | Follower] = []
        try:
            sample = lru_cache(lambda: columns.sample("train", N_SAMPLE).to(device))
            samples = Samples(sample, *_kept(columns, config, batches))
            for job in jobs:
                members.append(begun_on(mesh, job, places, samples))
            sample.cache_clear()
            terms = [_term(job.config, places, inputs, activations) for job in jobs]
            runs = [Run(m.state, job.config, term) for m, job, term in zip(members, jobs, terms, strict=True)]
            with _ahead(batches, device) as steps:
                yield from _train(members, runs, steps, batches.n_rows, progress, mesh)
        finally:
            for member in members:
                member.close()


def _train(
    members: Sequence[TrainingRun | Follower],
    runs: Sequence[Run],
    batches: Batches,
    n_rows: int,
    progress: Progress,
    mesh: Mesh,
) -> Iterator[Finished]:
    going, errors = set(range(len(members))), []
    n_tokens = sum(run.config.n_steps * run.config.batch for run in runs)
    with held_back() as interrupts:
        for number in [i for i in going if members[i].is_done]:  # killed between its last step and its end
            going.remove(number)
            yield Finished(number, members[number].finish(n_rows))
        for event in side_by_side(runs, batches, mesh):
            number, member = event.number, members[event.number]
            try:
                if number in going:
                    _tell(member, event)
            except DivergedError as error:
                errors.append(member.failed(error))
                going.remove(number)
            if isinstance(event, Moved) and event.progress.metrics:
                shown = {name: event.progress.metrics[name] for name in ("fvu", "dead_window_fraction")}
                progress.update(sum(m.state.n_tokens for m in members), n_tokens, "tokens", **shown)
            asked = mesh.data.total(int(interrupts.asked)) > 0  # all ranks stop after the same step
            if asked:
                for other in going:
                    members[other].interrupt()
                raise KeyboardInterrupt
            if number in going and member.is_done:
                going.remove(number)
                yield Finished(number, member.finish(n_rows))
        if interrupts.asked:
            raise KeyboardInterrupt
    if errors:
        raise WorldError("; ".join(map(str, errors)))


def _tell(member: TrainingRun | Follower, event: Moved | Failed) -> None:
    """What became of a member's step.

    Raises:
        DivergedError: its loss or its weights are not finite.
    """
    match event:
        case Failed(error=error):
            raise error
        case Moved(progress=done):
            member.after(done)
        case _:
            assert_never(event)


@contextmanager
def _shuffled(columns: Columns, config: TrainConfig, reader: Reader = ALONE) -> Iterator[ColumnBatches]:
    assert config.data_seed is not None
    batches = ColumnBatches(columns, "train", config.batch, config.data_seed, reader)
    try:
        if config.batch > batches.n_rows:
            raise InputError(
                f"train.batch {config.batch} is larger than the train split of {columns.first.folder}, which has "
                f"{batches.n_rows} rows: lower it, or harvest more text"
            )
        yield batches
    finally:
        batches.close()


@contextmanager
def _ahead(batches: ColumnBatches, device: torch.device) -> Iterator[Batches]:
    """The batches, made ahead in a thread where another device trains on them."""
    if device.type == "cpu":
        yield batches
        return
    with Prefetched(batches) as made:
        yield made


def _kept(
    columns: Columns, config: TrainConfig, batches: ColumnBatches
) -> tuple[Callable[[], Tensor], Callable[[], dict[str, float]]]:
    """The validation sample and how well batches are mixed, each found once."""
    validation = lru_cache(lambda: columns.sample("validation", N_VALIDATION))
    return validation, lru_cache(lambda: _mixing(columns, config, batches))


def _check_whole(harvest: Artifact) -> None:
    """Reads the harvest once: what was trained on a damaged file would bear the hash of the whole one.

    Raises:
        WorldError: a file's checksum differs; names it.
    """
    damaged = damaged_files(harvest)
    if damaged:
        raise WorldError(f"{harvest.path / damaged[0]} is damaged; sae harvest CONFIG --repair makes it again")


def _term(config: TrainConfig, places: Places, inputs: Inputs, activations: Activations) -> Term:
    """What a run's loss has beside that of the batch."""
    if config.end_to_end == "none":
        return NoTerm()
    sites = splice_sites(dictionary_of(config, places), inputs.sites[0])
    windows = TextWindows(activations, "train", config.end_to_end_windows, config.data_seed or 0)
    return EndToEnd(inputs.model(), sites, windows, config.end_to_end, config.end_to_end_weight)


def _mixing(columns: Columns, config: TrainConfig, batches: ColumnBatches) -> dict[str, float]:
    """Of whole batches: where this process reads a share of them, they are read once more."""
    if batches.n_in_share < batches.n_per_batch:
        with _shuffled(columns, config) as whole:
            return _mixing(columns, config, whole)
    alike = mean_autocorrelation(batches)
    return {
        "shuffle_quality": shuffle_quality(batches),
        "batch_mean_autocorrelation": alike.value,
        "batch_mean_autocorrelation_spread": alike.spread,
    }
