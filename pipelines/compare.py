"""`sae evaluate CONFIG [OTHER …] --compare`: dictionaries side by side, and which differences are more than noise.

1. Every member of the sweep is evaluated, and so are those of the other configurations; a folder stands for one
   dictionary, or for one evaluation that is there already. A dictionary's folder is evaluated as CONFIG says.
2. All must have been scored on the same documents at the same site; otherwise both are named and nothing is compared.
3. The comparison is an artifact of its own, named by the evaluations that it is made of: `comparison.json`,
   `comparison.html` and the fronts as SVG files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from pipelines.config import read_experiment
from pipelines.experiment import STAGES, Planned, Run, Stage
from sae.core.artifact import Artifact, Store, open_artifact
from sae.core.config import Strict, canonical_hash
from sae.core.errors import InputError
from sae.dashboard.comparison import ComparisonView, evaluated_of, view_of
from sae.dashboard.comparison_page import PAGE, write_page
from sae.dashboard.member import read_members
from sae.evaluation.comparison import Comparison, compare

VERSION = 1
COMPARISON = "comparison.json"
_STAGE = Stage("compare", "comparisons", (), ())

Artifacts = Mapping[str, Artifact]


class Compared(NamedTuple):
    """A comparison that is in the store."""

    artifact: Artifact
    view: ComparisonView
    reused: bool
    evaluations: tuple[Artifact, ...]

    def record(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "stage": "compare",
            "path": str(self.artifact.path),
            "reused": self.reused,
            "metrics": self.artifact.metrics,
            "paths": [str(artifact.path) for artifact in self.evaluations],
        }


def compare_all(
    names: Sequence[str], overrides: Sequence[tuple[str, str]], store: Store, with_parents: bool
) -> Compared:
    """Evaluates and compares.

    Args:
        names: the configuration, then other configurations, and folders of dictionaries or evaluations.
        overrides: of keys of every configuration.
        store: where artifacts are.
        with_parents: whether what an evaluation needs is made as well.

    Raises:
        InputError: dictionaries that cannot be compared; says which and why.
    """
    first = Run(read_experiment(names[0], overrides), store)
    runs = [first, *(Run(read_experiment(n, overrides), store) for n in names[1:] if not _is_artifact(n))]
    found = [one for run in runs for one in _of_run(run, with_parents)]
    found += [_of_folder(first, Path(name)) for name in names[1:] if _is_artifact(name)]
    once = {one["evaluate"].hash: one for one in found}
    members = list(once.values())
    compared = compare([evaluated_of(member) for member in read_members(members)])
    return _published(first, compared, [member["evaluate"] for member in members])


def _is_artifact(name: str) -> bool:
    return Path(name).is_dir()


def _of_run(run: Run, with_parents: bool) -> list[Artifacts]:
    outcomes = [outcome for outcome in run.run(["evaluate"], with_parents) if outcome.stage == "evaluate"]
    evaluated = []
    for member, outcome in enumerate(outcomes):
        train = run.found(member, "train")
        assert train is not None, "its evaluation needed it"
        evaluated.append({"train": train, "evaluate": outcome.artifact})
    return evaluated


def _of_folder(run: Run, folder: Path) -> Artifacts:
    """What a folder holds, as the artifacts of one dictionary."""
    artifact = open_artifact(folder.absolute())
    match artifact.kind:
        case "evaluations":
            _check_version(folder, artifact)
            train = Store(folder.absolute().parent.parent).find("dictionaries", artifact.manifest["parents"]["train"])
            if train is None:
                raise InputError(f"{folder} is an evaluation whose dictionary is no longer in its store")
            return {"train": train, "evaluate": artifact}
        case "dictionaries":
            return {"train": artifact, "evaluate": _evaluation(run, artifact)}
        case _:
            raise InputError(
                f"{folder} holds {artifact.kind}; what is compared are configurations, and folders of dictionaries "
                "or evaluations"
            )


def _check_version(folder: Path, evaluation: Artifact) -> None:
    theirs, ours = evaluation.manifest["inputs"]["version"], STAGES["evaluate"].module.VERSION
    if theirs != ours:
        raise InputError(
            f"{folder} was evaluated by version {theirs} of the stage, this is {ours}: name the dictionary's folder "
            "instead, and it is evaluated anew"
        )


def _evaluation(run: Run, dictionary: Artifact) -> Artifact:
    """A dictionary's evaluation as the run's configuration has it, made where it is not there."""
    planned = run.plan(0, STAGES["evaluate"])
    harvest, theirs = planned.inputs["parents"]["harvest"], dictionary.manifest["parents"]["harvest"]
    if theirs != harvest:
        raise InputError(
            f"{dictionary.path} was trained on the activations {theirs}, the first configuration reads {harvest}: "
            "only dictionaries on the same ones are compared"
        )
    inputs = {**planned.inputs, "parents": {"harvest": harvest, "train": dictionary.hash}}
    own = Planned(planned.stage, planned.config, canonical_hash(inputs), inputs, (harvest, dictionary.hash))
    found = run.find(own)
    if found is not None:
        return found
    activations = run.found(0, "harvest")
    if activations is None:
        raise InputError(f"evaluate needs harvest, not in {run.store.root}: run it first, or add --with-parents")
    parents = {"harvest": activations, "train": dictionary}
    return run.made(own, parents, f"evaluate {dictionary.hash}").artifact


def _published(run: Run, comparison: Comparison, evaluations: Sequence[Artifact]) -> Compared:
    parents = {f"{number}.evaluate": artifact.hash for number, artifact in enumerate(evaluations)}
    inputs = {"stage": _STAGE.name, "version": VERSION, "section": {}, "keys": {}, "parents": parents}
    planned = Planned(_STAGE, Strict(), canonical_hash(inputs), inputs, tuple(parents.values()))
    view, artifact = view_of(comparison), run.find(planned)
    reused = artifact is not None
    if artifact is None:
        with run.store.building(_STAGE.kind, planned.hash) as building:
            (building.path / COMPARISON).write_text(comparison.model_dump_json(indent=1) + "\n", encoding="utf-8")
            write_page(building.path, view)
            artifact = building.publish(run.manifest(planned, _metrics(comparison)))
    return Compared(artifact, view, reused, tuple(evaluations))


def _metrics(comparison: Comparison) -> dict[str, Any]:
    """How many differences are real, and who is on the front of each measure."""
    front = {
        metric: [entry.hash for entry, by in zip(comparison.dictionaries, beaten, strict=True) if not by]
        for metric, beaten in comparison.beaten_by.items()
    }
    n_real = {m: sum(p.is_real for p in comparison.pairs if p.metric == m) for m in comparison.beaten_by}
    return {
        "n_dictionaries": len(comparison.dictionaries),
        "n_documents": comparison.n_documents,
        "n_pairs": len(comparison.pairs),
        "n_real": n_real,
        "front": front,
    }


def show(compared: Compared, stream: TextIO) -> None:
    """Prints the dictionaries, the differences in what is drawn, and where the pictures are."""
    from rich.console import Console

    from pipelines.comparison_table import dictionaries_table, measure_table

    console = Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else 160)
    console.print(dictionaries_table(compared.view))
    for measure in compared.view.measures:
        console.print(measure_table(measure))
    console.print(f"Pictures: {compared.artifact.path / PAGE}", soft_wrap=True)
