"""Runs stages in the order of the flow, and never repeats equal work.

1. A stage's hash covers its name and version, its section, what else it reads (by content) and its parents' hashes.
2. An artifact with that hash is reused; otherwise the stage runs in `<store>/.building/<hash>` and is published.
3. `train.sweep` makes one member per combination. Members that see the same batches are trained on one pass over the
   activations, each into an artifact of its own; every later stage runs once for each member, and the report once for
   all of them.
"""

import importlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pipelines.config import Experiment, section_type
from pipelines.progress import ConsoleProgress
from pipelines.provenance import code_revision, library_versions
from pipelines.resources import Resources
from pipelines.stage import Inputs, Progress
from pipelines.sweep import sweep_members
from pipelines.training_sites import open_harvest
from pipelines.unfinished import announce, forget_inputs
from sae.core.artifact import Artifact, Store
from sae.core.config import Strict, canonical_hash
from sae.core.errors import InputError, nearest
from sae.dictionary.files import digest as dictionary_digest
from sae.training.config import TrainConfig


@dataclass(frozen=True)
class Stage:
    """A stage's place in the flow and what it reads beside its own section."""

    name: str
    kind: str
    parents: tuple[str, ...]
    reads: tuple[str, ...]

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"pipelines.{self.name}")


STAGES = {
    stage.name: stage
    for stage in (
        Stage("harvest", "activations", (), ("model", "model_dtype", "model_options", "site", "text")),
        Stage("train", "dictionaries", ("harvest",), ()),
        Stage("evaluate", "evaluations", ("harvest", "train"), ("seed", "model", "concepts")),
        Stage("catalogue", "catalogues", ("harvest", "train"), ("seed", "model")),
        Stage("probe", "findings", ("harvest", "train"), ("seed", "model", "concepts")),
        Stage("steer", "findings", ("harvest", "train", "probe"), ("seed", "model", "concepts")),
        Stage("validate", "findings", ("harvest", "train", "catalogue", "probe"), ("seed", "model", "concepts")),
        Stage("report", "reports", (), ()),
    )
}


_ONE_SITE = {"transcoder": ("steer", "validate"), "crosscoder": ("probe", "steer", "validate")}
"""Stages that are not for a preset."""


@dataclass(frozen=True)
class Outcome:
    """What became of one stage of one member."""

    stage: str
    artifact: Artifact
    reused: bool


@dataclass(frozen=True)
class Planned:
    """A stage of one member with its hash: known before anything runs."""

    stage: Stage
    config: Strict
    hash: str
    inputs: dict[str, Any]
    parents: tuple[str, ...]


Together = Callable[[list[int], list[Any], Inputs, Progress], Iterator[Any]]
"""Trains members, given their numbers and jobs, on one pass over the activations."""


def _together(members: list[int], jobs: list[Any], inputs: Inputs, progress: Progress) -> Iterator[Any]:
    """In this process alone."""
    return STAGES["train"].module.together(jobs, inputs, progress)


class Run:
    """One experiment in one store."""

    def __init__(self, experiment: Experiment, store: Store) -> None:
        self.store = store
        self._resources = Resources(experiment)
        self.members = tuple(sweep_members(experiment))
        self._plans: list[dict[str, Planned]] = [{} for _ in self.members]

    def run(self, names: Sequence[str], with_parents: bool, together: Together = _together) -> Iterator[Outcome]:
        """Runs the named stages for every member, in the order of the flow.

        Args:
            names: of stages.
            with_parents: whether what they need is run as well.
            together: what trains members on one pass: this process, or several.

        Raises:
            InputError: a parent is missing and `with_parents` is false.
        """
        wanted = [name for name in STAGES if name in names]
        self._check_variables(wanted)
        self._check_presets(wanted)
        names = wanted if not with_parents else self._with_ancestors(wanted)
        if "train" in names and self.members[0].train is None:
            raise InputError("the configuration has no section train: add one, such as train: {d_sae: 1024, l0: 16}")
        for name in names:
            if name == "train":
                yield from self._train(STAGES[name], together)
                continue
            members = range(1) if name in ("harvest", "report") else range(len(self.members))
            for member in members:
                yield self._one(member, STAGES[name])

    def _check_variables(self, stages: Sequence[str]) -> None:
        """A wrong file of labelled texts, or a variable that none of them has, is refused before anything runs."""
        if any("concepts" in STAGES[name].reads for name in stages):
            self._resources.check_concepts()
        for name in stages:
            asked = getattr(self.members[0].section(name), "variables", ())
            known = self._resources.variables() if asked else ()
            for variable in asked:
                if variable not in known:
                    hint = nearest(variable, known) or "."
                    raise InputError(f"{name}.variables: no variable {variable!r}{hint} There are {', '.join(known)}")

    def _check_presets(self, stages: Sequence[str]) -> None:
        """Stages that move one site by a latent's direction need a dictionary that reads the site that it writes."""
        for name in stages:
            for train in (member.train for member in self.members):
                if train is not None and name in _ONE_SITE.get(train.preset, ()):
                    raise InputError(
                        f"{name} is for dictionaries that read the one site that they write, not for preset "
                        f"{train.preset}; leave the section out, or use sae.intervention from Python"
                    )

    def artifacts(self, member: int) -> dict[str, Artifact]:
        """Everything of a member that is in the store, by stage."""
        found = {name: self.find(self.plan(member, stage)) for name, stage in STAGES.items() if self._has(name)}
        return {name: artifact for name, artifact in found.items() if artifact is not None}

    def found(self, member: int, name: str) -> Artifact | None:
        """What the store has of one stage of a member."""
        return self.find(self.plan(member, STAGES[name]))

    def _has(self, name: str) -> bool:
        return name != "report" and (name in ("harvest", "train") or self.members[0].section(name) is not None)

    def _with_ancestors(self, names: Sequence[str]) -> list[str]:
        needed = set(names)
        for stage in reversed(STAGES.values()):
            if stage.name in needed:
                needed |= set(stage.parents)
        return [name for name in STAGES if name in needed]

    def _one(self, member: int, stage: Stage) -> Outcome:
        planned = self.plan(member, stage)
        found = self.find(planned)
        label = self._label(stage, [member])
        if found is not None:
            ConsoleProgress(label).say(f"reused {planned.hash}")
            return Outcome(stage.name, found, reused=True)
        return self.made(planned, self.parents(member, stage), label, member)

    def made(self, planned: Planned, parents: Mapping[str, Artifact], label: str, member: int = 0) -> Outcome:
        """Runs one stage on its parents and publishes what it made."""
        stage = planned.stage
        with self.store.building(stage.kind, planned.hash) as building:
            found = self.find(planned)
            if found is not None:  # another process published it while we waited for the lock
                return Outcome(stage.name, found, reused=True)
            progress = ConsoleProgress(label)
            metrics = stage.module.run(planned.config, self.inputs(member, parents), building.path, progress)
            artifact = building.publish(self.manifest(planned, metrics))
            self.store.remove_parts(planned.hash)  # of a harvest that was begun in parts, and then made whole
            progress.close(f"done  {planned.hash}")
        return Outcome(stage.name, artifact, reused=False)

    def _train(self, stage: Stage, together: Together) -> Iterator[Outcome]:
        """Every member's dictionary, in order; those that are missing and see the same batches are trained together."""
        plans = [self.plan(member, stage) for member in range(len(self.members))]
        there = {planned.hash: found for planned in plans if (found := self.find(planned)) is not None}
        groups: dict[Any, dict[str, int]] = {}
        for member, planned in enumerate(plans):
            if planned.hash in there:
                ConsoleProgress(self._label(stage, [member])).say(f"reused {planned.hash}")
            else:
                groups.setdefault(stage.module.stream_of(planned.config), {}).setdefault(planned.hash, member)
        made: dict[str, Artifact] = {}
        for group in groups.values():
            made |= self._train_together(stage, list(group.values()), together)
        for planned in plans:
            fresh = planned.hash in made
            artifact = made.pop(planned.hash) if fresh else there[planned.hash]
            there[planned.hash] = artifact  # a member that equals an earlier one reuses it
            yield Outcome(stage.name, artifact, reused=not fresh)

    def _train_together(self, stage: Stage, members: list[int], together: Together) -> dict[str, Artifact]:
        """Trains members on one pass and publishes each when it is done; by hash."""
        parents = self.parents(members[0], stage)
        made: dict[str, Artifact] = {}
        with ExitStack() as stack:
            jobs, buildings, plans, missing = [], [], [], []
            for member in members:
                planned = self.plan(member, stage)
                building = stack.enter_context(self.store.building(stage.kind, planned.hash))
                found = self.find(planned)
                if found is not None:  # another process published it while we waited for the lock
                    made[planned.hash] = found
                    continue
                progress = ConsoleProgress(self._label(stage, [member]))
                jobs.append(stage.module.Job(planned.config, building.path, progress))
                buildings.append(building)
                plans.append(planned)
                missing.append(member)
            for job, planned in zip(jobs, plans, strict=True):
                announce(self.store, planned.inputs, job.folder, [other.hash for other in plans], job.progress)
            shown = ConsoleProgress(self._label(stage, members))
            for number, metrics in together(missing, jobs, self.inputs(members[0], parents), shown) if jobs else ():
                planned = plans[number]
                forget_inputs(buildings[number].path)
                made[planned.hash] = buildings[number].publish(self.manifest(planned, metrics))
                jobs[number].progress.close(f"done  {planned.hash}")
        return made

    def _label(self, stage: Stage, members: Sequence[int]) -> str:
        """The stage's name as it is shown, with the members of a sweep that are meant."""
        if len(self.members) == 1 or stage.name in ("harvest", "report"):
            return stage.name
        return f"{stage.name} {members[0]}" + (f"–{members[-1]}" if len(members) > 1 else "")

    def find(self, planned: Planned) -> Artifact | None:
        """The artifact of a stage, if it is in the store."""
        return self.store.find(planned.stage.kind, planned.hash)

    def parents(self, member: int, stage: Stage) -> dict[str, Artifact]:
        """What a stage of one member is made from, by stage; raises InputError where it is missing."""
        parents = {}
        for name in stage.parents:
            parent = self.find(self.plan(member, STAGES[name]))
            if parent is None:
                raise InputError(
                    f"{stage.name} needs {name}, not in {self.store.root}: run it first, or add --with-parents"
                )
            parents[name] = parent
        if stage.name == "report" and "train" not in self.artifacts(member):
            raise InputError(
                f"report needs train, which is not in {self.store.root}: run it first, or add --with-parents"
            )
        return parents

    def plan(self, member: int, stage: Stage) -> Planned:
        """A stage of one member and its hash."""
        plans = self._plans[member]
        if stage.name not in plans:
            plans[stage.name] = self._planned(member, stage)
        planned = plans[stage.name]
        if stage.name == "report":  # its parents are whatever is there, so it is planned last and never kept
            del plans[stage.name]
        return planned

    def _planned(self, member: int, stage: Stage) -> Planned:
        experiment = self.members[member]
        config = experiment.section(stage.name)
        if config is None:
            config = _default_section(stage.name)
        parents = {name: self.plan(member, STAGES[name]).hash for name in stage.parents}
        if stage.name == "report":
            parents = {f"{i}.{n}": a.hash for i in range(len(self.members)) for n, a in self.artifacts(i).items()}
        # An evaluation without probing reads no labelled texts.
        reads = [key for key in stage.reads if key != "concepts" or getattr(config, "probe_texts", None) != 0]
        inputs = {
            "stage": stage.name,
            "version": stage.module.VERSION,
            "section": config.hashed(),
            "keys": {key: self._key(experiment, key) for key in reads},
            "parents": parents,
        }
        inputs["keys"] |= _content_of_paths(config)
        if stage.name == "report":  # the page shows these names, which no other artifact depends on
            inputs["keys"] = {key: _shown_name(name) for key, name in _names(experiment).items()}
        return Planned(stage, config, canonical_hash(inputs), inputs, tuple(parents.values()))

    def _key(self, experiment: Experiment, key: str) -> Any:
        match key:
            case "model":
                return self._resources.model_fingerprint
            case "text":
                return self._resources.text_key
            case "concepts":
                return self._resources.concepts_fingerprint
            case "site":
                return experiment.sites
            case "model_options":
                return experiment.model_options.hashed()
            case _:
                return getattr(experiment, key)

    def inputs(self, member: int, parents: Mapping[str, Artifact]) -> Inputs:
        """What a stage of one member is given."""
        experiment = self.members[member]
        return Inputs(
            seed=experiment.seed,
            sites=experiment.sites,
            max_tokens=experiment.text.max_tokens,
            device=self._resources.device,
            parents=parents,
            members=lambda: tuple(self.artifacts(i) for i in range(len(self.members))),
            settings=experiment.model_dump(mode="json", by_alias=True, exclude_none=True),
            model=self._resources.model,
            model_fingerprint=lambda: self._resources.model_fingerprint,
            texts=self._resources.texts,
            concepts=self._resources.concepts,
        )

    def manifest(self, planned: Planned, metrics: dict[str, Any]) -> dict[str, Any]:
        """What is written into the manifest of a stage that gave these metrics."""
        import torch

        return {
            "kind": planned.stage.kind,
            "hash": planned.hash,
            "inputs": planned.inputs,
            "parents": planned.inputs["parents"],
            "metrics": metrics,
            "seed": planned.inputs["section"].get("seed", self.members[0].seed),
            "device": getattr(planned.config, "device", self._resources.device),
            "model_options": self.members[0].model_options.model_dump(mode="json"),
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "versions": library_versions(),
            "code_revision": code_revision(),
        }


def _content_of_paths(config: Strict) -> dict[str, str]:
    """What a training section names by path, by its content: never by where it lies."""
    if not isinstance(config, TrainConfig):
        return {}
    found = {}
    if config.start_from is not None:
        found["start_from"] = dictionary_digest(Path(config.start_from))
    if config.beside is not None:
        found["beside"] = str(open_harvest(config.beside)["hash"])
    return found


def _names(experiment: Experiment) -> dict[str, str]:
    return {"model": experiment.model, "text": experiment.text.source, "concepts": experiment.concepts}


def _shown_name(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name


def _default_section(stage: str) -> Strict:
    field = Experiment.model_fields["validate_" if stage == "validate" else stage]
    section = section_type(field.annotation)
    assert section is not None
    return section()
