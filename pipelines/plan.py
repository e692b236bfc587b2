"""`sae plan`: tokens, disk, memory and time of an experiment, from seconds of measuring, before anything is made.

1. What the store holds already costs nothing.
2. A small harvest of the first texts and a few real training steps are made in a temporary store on the same disk.
3. Harvest and train are predicted, the stages that take long; the others are named as not predicted.
4. What cannot fit is said with its numbers: disk, memory, the largest file allowed. What sizes alone rule out is not
   tried.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pipelines import capacity
from pipelines.config import Experiment, section_names
from pipelines.experiment import Run
from pipelines.harvest import HarvestConfig
from pipelines.plan_harvest import HarvestPlan, plan_harvest, weights_bytes
from pipelines.plan_train import TrainPlan, least_plan, peak_together, plan_train
from pipelines.resources import Resources
from pipelines.stage import Progress
from pipelines.training_sites import training_sites
from sae.core.artifact import Artifact, Store
from sae.core.config import Strict
from sae.training.config import TrainConfig

PREDICTED = ("harvest", "train")


class Plan(Strict):
    """What an experiment will take beyond what the store has."""

    harvest: HarvestPlan | None
    """None where it is in the store, or the file has no such stage."""
    train: tuple[TrainPlan, ...]
    """One for every member of a sweep that is not in the store."""
    short_of: tuple[str, ...]
    """What does not fit, with the numbers; nothing where all fits."""
    not_predicted: tuple[str, ...]
    """Stages of the file that are not in these sums."""

    @property
    def fits(self) -> bool:
        return not self.short_of

    def record(self, store: Path) -> dict[str, Any]:
        """The object of `--json`."""
        plans = [*([self.harvest] if self.harvest else []), *self.train]
        times = [plan.seconds for plan in plans]
        most = [*([self.harvest.seconds] if self.harvest else []), *(plan.seconds_at_most for plan in self.train)]
        return {
            "stage": "plan",
            "path": str(store),
            "reused": not plans,
            "tokens": self.harvest.n_tokens if self.harvest else 0,
            "bytes_on_disk": sum(plan.bytes_on_disk for plan in plans),
            "peak_bytes": max(self.harvest.peak_bytes if self.harvest else 0, peak_together(self.train)),
            "seconds": None if None in times else sum(time for time in times if time is not None),
            "seconds_at_most": None if None in most else sum(time for time in most if time is not None),
            "fits": self.fits,
            "short_of": list(self.short_of),
            "harvest": None if self.harvest is None else self.harvest.model_dump(),
            "train": [plan.model_dump() for plan in self.train],
            "not_predicted": list(self.not_predicted),
        }


class Planner:
    """Makes the plan of one experiment for one store."""

    def __init__(self, experiment: Experiment, store: Store, progress: Progress) -> None:
        self._experiment, self._store, self._progress = experiment, store, progress
        self._run = Run(experiment, store)
        self._resources = Resources(experiment)
        self._short: list[str] = []

    def plan(self) -> Plan:
        """Measures.

        Raises:
            InputError: what the harvest would refuse.
            WorldError: another plan is being made in this store.
        """
        with self._temporary() as temporary:
            there = self._run.found(0, "harvest")
            harvest, artifact = (None, there) if there else self._harvest(temporary)
            train = self._train(harvest, artifact, temporary.root) if self._experiment.train else ()
        self._check_disk(harvest, train)
        others = tuple(s for s in section_names() if s not in PREDICTED and self._experiment.section(s) is not None)
        return Plan(harvest=harvest, train=train, short_of=tuple(self._short), not_predicted=others)

    @contextmanager
    def _temporary(self) -> Iterator[Store]:
        """A store within the store, which goes away; one plan at a time."""
        with self._store.building("plans", "plan") as building:
            shutil.rmtree(building.path)
            building.path.mkdir()
            try:
                yield Store(building.path)
            finally:
                shutil.rmtree(building.path)

    def _harvest(self, temporary: Store) -> tuple[HarvestPlan | None, Artifact | None]:
        config = self._experiment.harvest or HarvestConfig()
        if self._too_much_memory("harvest", weights_bytes(self._resources.model_reference), "for the weights alone"):
            return None, None
        self._progress.say("measuring a harvest of the first texts")
        made = plan_harvest(self._experiment, config, self._resources, temporary)
        self._too_much_memory("harvest", made.plan.peak_bytes, "at its peak")
        return made.plan, made.sample

    def _train(self, harvest: HarvestPlan | None, artifact: Artifact | None, folder: Path) -> tuple[TrainPlan, ...]:
        from sae.activations.reader import Activations

        if artifact is None:
            return ()
        activations = Activations(artifact.path)
        share = (self._experiment.harvest or HarvestConfig()).fractions.train
        n_rows = activations.n_rows("train") if harvest is None else round(harvest.n_rows * share)
        plans: dict[str, TrainPlan] = {}
        missing = [i for i in range(len(self._run.members)) if self._run.found(i, "train") is None]
        found = []
        for member in missing:
            config = self._run.members[member].train
            assert config is not None
            key = config.model_copy(update={"seed": 0, "data_seed": 0}).model_dump_json()
            if key not in plans:
                plans[key] = self._one_train(config, activations, n_rows, folder / f"checkpoints-{member}")
            found.append(plans[key])
        if len(found) > 1 and not self._short:
            self._too_much_memory("train", peak_together(found), f"for {len(found)} members side by side")
        return tuple(found)

    def _one_train(self, config: TrainConfig, activations: Any, n_rows: int, folder: Path) -> TrainPlan:
        sites = training_sites(config, activations, "")
        least = least_plan(config, sites, n_rows)
        if self._too_much_memory("train", least.peak_bytes, f"for {least.n_parameters:,} parameters and its buffer"):
            return least
        self._progress.say(f"measuring training steps of {least.n_parameters:,} parameters")
        plan = plan_train(config, sites, n_rows, folder)
        self._too_much_memory("train", plan.peak_bytes, "at its peak")
        return plan

    def _too_much_memory(self, stage: str, needed: int, what: str) -> bool:
        available = capacity.available_bytes()
        if needed <= available:
            return False
        self._short.append(f"{stage} needs {size(needed)} of memory {what}, {size(available)} are there")
        return True

    def _check_disk(self, harvest: HarvestPlan | None, train: tuple[TrainPlan, ...]) -> None:
        kept = (harvest.bytes_on_disk if harvest else 0) + sum(plan.bytes_on_disk for plan in train)
        most = kept + max((plan.bytes_while_running - plan.bytes_on_disk for plan in train), default=0)
        free = capacity.free_bytes(self._store.root)
        if most > free:
            self._short.append(f"{size(most)} of disk are needed in {self._store.root}, {size(free)} are free")
        limit = capacity.largest_file()
        if harvest and harvest.largest_file > limit:
            self._short.append(
                f"a shard takes {size(harvest.largest_file)}, a file may have {size(limit)} here (ulimit -f); "
                f"lower harvest.shard_rows"
            )


def size(n_bytes: float) -> str:
    """Bytes as people read them."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if n_bytes >= limit:
            return f"{n_bytes / limit:.3g} {unit}"
    return f"{n_bytes / 1e3:.3g} kB"


def show(plan: Plan, stream: TextIO) -> None:
    """A line for every stage, and the sums; the longer time is with dead latents at every step."""
    rows = [("harvest", plan.harvest.model_dump())] if plan.harvest else []
    rows += [(f"train {i}" if len(plan.train) > 1 else "train", one.model_dump()) for i, one in enumerate(plan.train)]
    stream.write(f"{'stage':<10}{'tokens':>14}{'disk':>10}{'memory':>10}{'time':>20}\n")
    for name, one in rows:
        stream.write(_line(name, one["n_tokens"], one))
    if not rows:
        stream.write("Everything is there already.\n")
    if len(rows) > 1:
        sums = plan.record(Path())
        stream.write(_line("together", sums["tokens"], sums))
    if plan.not_predicted:
        stream.write(f"Not in these sums: {', '.join(plan.not_predicted)}.\n")


def _line(name: str, n_tokens: int, sums: dict[str, Any]) -> str:
    n_bytes, peak, seconds = (sums[key] for key in ("bytes_on_disk", "peak_bytes", "seconds"))
    time = "not tried" if seconds is None else _clock(seconds)
    most = sums.get("seconds_at_most")
    if most is not None and _clock(most) != time:
        time += f" to {_clock(most)}"
    return f"{name:<10}{n_tokens:>14,}{size(n_bytes):>10}{size(peak):>10}{time:>20}\n"


def _clock(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
