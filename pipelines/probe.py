"""Probe stage: what can be read about each variable from the residual stream and from single latents."""

from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors.numpy import save_file

from pipelines.stage import Inputs, Progress
from sae.core.config import Strict
from sae.core.errors import InputError, nearest
from sae.core.records import Finding, LabelledText, write_findings
from sae.dictionary import Dictionary, load
from sae.lm.load import LoadedModel
from sae.lm.untrained import untrained
from sae.probe.claims import probe_findings, with_q
from sae.probe.knowledge import knowledge_findings, knowledge_of
from sae.probe.selection import DIRECTIONS, Selection, VariableSelection, direction_key
from sae.probe.variable import Encoded, by_variable, choose_all, directions, encoded, evidence_of, selection_of

VERSION = 2


class ProbeConfig(Strict):
    """How labelled texts are probed."""

    variables: tuple[str, ...] = ()
    """Variables to probe; empty for all of the labelled texts'."""
    max_texts: int = Field(default=2000, gt=0)
    """Labelled texts per variable, at most."""
    untrained_model: bool = True
    """Measure the same model with random weights as a control; needs the model's memory once more."""


def run(config: ProbeConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Writes findings.jsonl, selection.json and directions.safetensors; says each variable's accuracies.

    Raises:
        InputError: an unknown variable, or no variable with enough texts.
    """
    loaded, train = inputs.model(), inputs.parents["train"]
    dictionaries = _dictionaries(train.path)
    site = dictionaries["trained"].config.site or inputs.sites[0]
    texts = by_variable(inputs.concepts())
    control = untrained(loaded, inputs.seed) if config.untrained_model else None
    findings: list[Finding] = []
    selected: dict[str, VariableSelection] = {}
    vectors: dict[str, Any] = {}
    asked = _asked(config.variables, list(texts))
    for done, variable in enumerate(asked):
        progress.update(done, len(asked), "variables")
        one = _encoded(config, loaded, texts[variable], inputs.seed, progress)
        if not one.sample.targets:
            progress.say(f"{variable}: left out, it needs two documents of a label and two without in every split")
            continue
        if control is not None:
            known, unknown = (
                knowledge_of(model, site, texts[variable], one, config.max_texts, inputs.seed)
                for model in (loaded, control)
            )
            findings += knowledge_findings(known, unknown, one.sample, site, inputs.seed)
        evidence = evidence_of(loaded, site, one, dictionaries, train.hash, inputs.seed)
        chosen = choose_all(evidence)
        findings += probe_findings(evidence, chosen)
        selected[variable] = selection_of(evidence, chosen)
        vectors |= {direction_key(variable, target): v for target, v in directions(evidence, chosen).items()}
    progress.update(len(asked), len(asked), "variables")
    if not selected:
        raise InputError("no variable has two documents of a label and two without it in every split: give more texts")
    write_findings(folder / "findings.jsonl", with_q(findings))
    Selection(site=site, dictionary=train.hash, variables=selected).write(folder)
    save_file(vectors, folder / DIRECTIONS)
    return _metrics(findings, len(asked) - len(selected))


def _encoded(
    config: ProbeConfig, loaded: LoadedModel, texts: list[LabelledText], seed: int, progress: Progress
) -> Encoded:
    """The texts of one variable; says what was left out."""
    one, variable = encoded(loaded, texts, config.max_texts, seed), texts[0].variable
    if one.n_left_out:
        progress.say(f"{variable}: {one.n_left_out} texts left out; the first: {one.reason}")
    n_few = len(one.sample.labels) - len(one.sample.targets)
    if one.sample.targets and not one.sample.binary and n_few:
        progress.say(f"{variable}: {n_few} of {len(one.sample.labels)} labels have too few documents for a probe")
    return one


def _dictionaries(folder: Path) -> dict[str, Dictionary]:
    """The trained dictionary and, where the training stage kept it, what training started from."""
    start = folder / "untrained"
    return {"trained": load(folder)} | ({"untrained": load(start)} if start.is_dir() else {})


def _asked(variables: tuple[str, ...], known: list[str]) -> list[str]:
    for variable in variables:
        if variable not in known:
            raise InputError(
                f"no labelled text of variable {variable!r}; there are {', '.join(known)}{nearest(variable, known)}"
            )
    return list(variables) or known


def _metrics(findings: list[Finding], n_left_out: int) -> dict[str, Any]:
    accuracies = {
        f"{finding.variable}.{finding.settings['method']}": round(finding.effect, 4)
        for finding in findings
        if finding.settings["level"] == "variable"
    }
    return {**accuracies, "n_findings": len(findings), "n_variables_left_out": n_left_out}
