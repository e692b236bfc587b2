"""A harvest that several processes make, and one that is mended.

1. `--part i/n`: each process makes one part, beside the others; `merge` joins them and publishes the artifact. Under
   torchrun every rank makes its part and rank 0 merges.
2. `--repair`: an artifact with damaged files goes back to where it was built, without them. What is missing is made
   again, and the artifact is published again.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import harvest
from pipelines.experiment import STAGES, Outcome, Planned, Run
from pipelines.progress import ConsoleProgress
from sae.activations.config import HarvestConfig
from sae.core.artifact import MANIFEST
from sae.core.errors import InputError, WorldError
from sae.core.lock import holders_of

if TYPE_CHECKING:
    from sae.activations.parts import Part

_LONGEST_WAIT = timedelta(days=30)
_STAGE = STAGES["harvest"]


@dataclass(frozen=True)
class PartOutcome:
    """What became of one part."""

    path: Path
    reused: bool
    metrics: dict[str, Any]


def run_part(run: Run, part: "Part") -> PartOutcome:
    """Makes one part, unless it or the whole is there.

    Raises:
        InputError: the harvest cannot be made in parts.
        WorldError: another process makes the same part, or the whole.
    """
    from sae.activations.config import check_parts
    from sae.activations.merge import read_part_contents

    planned, config = _planned(run)
    check_parts(config, part.n)
    progress = ConsoleProgress(f"harvest {part.index}/{part.n}")
    published = run.find(planned)
    if published is not None:
        progress.say(f"reused {planned.hash}")
        return PartOutcome(published.path, True, published.metrics)
    with run.store.part(planned.hash, part.name) as folder:
        contents = read_part_contents(folder)
        if contents is not None:
            progress.say("this part is there already")
            return PartOutcome(folder, True, {"n_rows": contents.counts["n_rows"]})
        metrics = harvest.run_part(config, run.inputs(0, {}), folder, part, progress)
        progress.close("part done; when all are: sae merge")
        return PartOutcome(folder, False, metrics)


def merge(run: Run) -> Outcome:
    """Joins the parts of a harvest and publishes it, unless it is there.

    Raises:
        WorldError: not all parts are whole; says which are missing.
    """
    planned, _ = _planned(run)
    published = run.find(planned)
    if published is not None:
        run.store.remove_parts(planned.hash)
        return Outcome("merge", published, reused=True)
    progress = ConsoleProgress("merge")
    folders = _whole_parts(run.store.parts(planned.hash))
    with run.store.building(_STAGE.kind, planned.hash) as building:
        metrics = harvest.join(folders, run.inputs(0, {}), building.path, progress)
        artifact = building.publish(run.manifest(planned, metrics))
    run.store.remove_parts(planned.hash)
    progress.close(f"done  {planned.hash}")
    return Outcome("merge", artifact, reused=False)


def _whole_parts(parts: Path) -> list[Path]:
    """The folders of all parts, in order."""
    from sae.activations.merge import read_part_contents

    found = sorted(folder for folder in parts.glob("*-of-*") if folder.is_dir())
    if not found:
        raise WorldError("there are no parts of this harvest; make them with sae harvest CONFIG --part i/n")
    problems = []
    for n in sorted({int(folder.name.rpartition("-")[2]) for folder in found}):
        folders = [parts / f"{index:03d}-of-{n:03d}" for index in range(n)]
        missing = [index for index, folder in enumerate(folders) if read_part_contents(folder) is None]
        if not missing:
            return folders
        problems.append(f"of {n} parts {', '.join(map(str, missing))} {'is' if len(missing) == 1 else 'are'} not whole")
    if busy := holders_of(parts):
        raise WorldError(f"{'; '.join(problems)}: wait for process {', '.join(busy)}")
    raise WorldError(f"{'; '.join(problems)}: make them with sae harvest CONFIG --part i/n")


def repair(run: Run) -> Outcome:
    """Makes the damaged files of a published harvest again.

    Raises:
        InputError: there is no such harvest.
    """
    planned, _ = _planned(run)
    progress = ConsoleProgress("harvest")
    damaged = run.store.take_back(_STAGE.kind, planned.hash)
    there = run.store.is_building(planned.hash) or run.store.path(_STAGE.kind, planned.hash).exists()
    if damaged is None and not there:
        raise InputError(f"{run.store.root} has no harvest {planned.hash} to repair; make it without --repair")
    if damaged == {}:
        progress.say(f"{planned.hash} is whole: nothing to repair")
    for name in damaged or ():
        progress.say(f"{name} is damaged or missing, and is made again")
    outcome = next(iter(run.run(["harvest"], with_parents=False)))
    files = outcome.artifact.manifest["files"]
    for name, digest in (damaged or {}).items():
        if name not in files and name != MANIFEST:
            progress.say(f"{name} belongs to no harvest any more")
        elif digest and files[name]["sha256"] != digest:
            progress.say(f"{name} has other bytes than before: made on another machine, or with other threads or batch")
    return outcome


def _planned(run: Run) -> tuple[Planned, HarvestConfig]:
    planned = run.plan(0, _STAGE)
    assert isinstance(planned.config, HarvestConfig)
    return planned, planned.config


def n_ranks() -> int:
    """Processes that torchrun started together; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def run_ranks(run: Run) -> Outcome:
    """Under torchrun: every rank makes its part, rank 0 merges, all return the whole."""
    import torch.distributed as distributed

    from sae.activations.parts import Part

    part = Part(int(os.environ["RANK"]), n_ranks())
    distributed.init_process_group("gloo", timeout=_LONGEST_WAIT)
    try:
        run_part(run, part)
        distributed.barrier()
        outcome = merge(run) if part.index == 0 else None
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
    if outcome is None:
        artifact = run.find(_planned(run)[0])
        assert artifact is not None, "rank 0 published it"
        outcome = Outcome("harvest", artifact, reused=False)
    return Outcome("harvest", outcome.artifact, outcome.reused)
