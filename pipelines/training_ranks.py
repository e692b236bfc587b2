"""Training by several processes that torchrun started: one log, one set of checkpoints, one artifact each.

1. Rank 0 does what a single process does: it plans, holds the folders, logs, validates, saves and publishes.
2. Before every pass over the activations it tells which members are trained, and after the last one that there are no
   more. The other ranks load its checkpoints and compute their share of every batch.
3. Whoever is asked to stop tells all: they stop after the same step.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pipelines import train
from pipelines.experiment import STAGES, Outcome, Run, Together
from pipelines.stage import Inputs, Progress
from pipelines.training_follower import Silent
from sae.core.config import Strict
from sae.core.errors import InputError
from sae.parallel import Mesh, device_of, started
from sae.training import TrainConfig

CPU = torch.device("cpu")


def told(mesh: Mesh, members: Sequence[int], n_members: int, device: torch.device = CPU) -> list[int]:
    """The members that rank 0 names; every rank calls it.

    Args:
        mesh: all processes.
        members: what rank 0 names; of the others it is not asked.
        n_members: of the sweep.
        device: of this process.
    """
    flags = torch.zeros(n_members, dtype=torch.int64, device=device)
    flags[list(members)] = 1
    return mesh.data.broadcast_(flags).nonzero().flatten().tolist()


def run_ranks(run: Run) -> list[Outcome]:
    """Trains every member; rank 0 gives what became of them, the others what it published.

    Raises:
        InputError: as the stage does.
        WorldError: as the stage does, or another process has ended.
    """
    section = run.members[0].train
    device = device_of(section.device) if section else CPU
    with started(device) as mesh:
        if mesh.is_first:
            outcomes = list(run.run(["train"], with_parents=False, together=_leading(mesh, len(run.members), device)))
            told(mesh, [], len(run.members), device)
        else:
            outcomes = list(_follow(run, mesh, device))
        mesh.wait()
    return outcomes


def _leading(mesh: Mesh, n_members: int, device: torch.device) -> Together:
    """Training in which rank 0 names the members before each pass."""

    def together(members: list[int], jobs: list[train.Job], inputs: Inputs, shown: Progress) -> Iterator[Any]:
        told(mesh, members, n_members, device)
        return train.together(jobs, inputs, shown, mesh)

    return together


def _follow(run: Run, mesh: Mesh, device: torch.device) -> Iterator[Outcome]:
    while members := told(mesh, [], len(run.members), device):
        plans = [run.plan(member, STAGES["train"]) for member in members]
        jobs = [train.Job(_train_config(plan.config), run.store.in_building(plan.hash), Silent()) for plan in plans]
        inputs = run.inputs(members[0], run.parents(members[0], STAGES["train"]))
        for _ in train.together(jobs, inputs, Silent(), mesh):
            pass
    for member in range(len(run.members)):
        artifact = run.found(member, "train")
        if artifact is None:
            raise InputError(f"rank 0 published no dictionary of member {member}")
        yield Outcome("train", artifact, reused=False)


def _train_config(section: Strict) -> TrainConfig:
    assert isinstance(section, TrainConfig)
    return section
