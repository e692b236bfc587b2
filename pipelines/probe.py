"""Probe stage: what can be read about each variable from the residual stream and from single latents."""

from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.stage import Inputs, Progress
from sae.core.config import Strict
from sae.core.errors import InputError

VERSION = 1


class ProbeConfig(Strict):
    """How labelled texts are probed."""

    variables: tuple[str, ...] = ()
    """Variables to probe; empty for all of the labelled texts'."""
    max_texts: int = Field(2000, gt=0)
    """Labelled texts per variable, at most."""


def run(config: ProbeConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Writes findings.jsonl, selection.json and directions.safetensors; says each variable's accuracies.

    Raises:
        InputError: an unknown variable, or no variable with enough texts.
    """
    from safetensors.numpy import save_file

    from sae.core.records import Finding, write_findings
    from sae.probe.claims import probe_findings, with_q
    from sae.probe.selection import DIRECTIONS, Selection, VariableSelection, direction_key
    from sae.probe.variable import by_variable, choose_all, directions, encoded, evidence_of, selection_of

    loaded, train = inputs.model(), inputs.parents["train"]
    dictionaries = _dictionaries(train.path)
    site = dictionaries["trained"].config.site or inputs.sites[0]
    texts = by_variable(inputs.concepts())
    findings: list[Finding] = []
    selected: dict[str, VariableSelection] = {}
    vectors: dict[str, Any] = {}
    asked = _asked(config.variables, list(texts))
    for done, variable in enumerate(asked):
        progress.update(done, len(asked), "variables")
        one = encoded(loaded, texts[variable], config.max_texts, inputs.seed)
        if one.n_left_out:
            progress.say(f"{variable}: {one.n_left_out} texts left out; the first: {one.reason}")
        if not one.sample.targets:
            progress.say(f"{variable}: left out, it needs two documents of a label and two without in every split")
            continue
        if (n_few := len(one.sample.labels) - len(one.sample.targets)) and not one.sample.binary:
            progress.say(f"{variable}: {n_few} labels have too few documents for a probe of their own")
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


def _dictionaries(folder: Path) -> dict[str, Any]:
    """The trained dictionary and, where the training stage kept it, what training started from."""
    from sae.dictionary import load

    start = folder / "untrained"
    return {"trained": load(folder)} | ({"untrained": load(start)} if start.is_dir() else {})


def _asked(variables: tuple[str, ...], known: list[str]) -> list[str]:
    from sae.core.errors import nearest

    for variable in variables:
        if variable not in known:
            raise InputError(f"no labelled text of variable {variable!r}; there are {', '.join(known)}{nearest(variable, known)}")
    return list(variables) or known


def _metrics(findings: list[Any], n_left_out: int) -> dict[str, Any]:
    accuracies = {
        f"{finding.variable}.{finding.settings['method']}": round(finding.effect, 4)
        for finding in findings
        if finding.settings["level"] == "variable"
    }
    return {**accuracies, "n_findings": len(findings), "n_variables_left_out": n_left_out}
