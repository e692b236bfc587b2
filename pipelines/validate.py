"""Validate stage: whether the model uses the latents that probing found, by ablating and patching them."""

from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors.torch import load_file

from pipelines.stage import Inputs, Progress
from sae.catalogue import Catalogue
from sae.causal.interventions import Means, controls_of
from sae.causal.validate import Subjects, validated
from sae.core.config import Strict
from sae.core.records import Finding, write_findings
from sae.dictionary import load
from sae.probe.claims import with_q
from sae.probe.selection import DIRECTIONS, direction_key, read_selection
from sae.probe.variable import by_variable, held_out_texts

VERSION = 1


class ValidateConfig(Strict):
    """How latents are tested for what they cause."""

    variables: tuple[str, ...] = ()
    """Variables to validate; empty for all that have a consequence."""
    max_texts: int = Field(default=120, ge=2)
    """Test texts per variable, at most."""
    n_control: int = Field(default=40, ge=1)
    """Latents of like density that the best latent is compared with; no p can be below 1/(n_control + 1)."""


def run(config: ValidateConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Writes findings.jsonl; says each variable's effects.

    Raises:
        InputError: a variable that was not probed or has no consequence.
    """
    selection = read_selection(inputs.parents["probe"].path)
    variables = selection.steerable(config.variables)
    subjects = Subjects(
        inputs.model(), load(inputs.parents["train"].path), selection.site, selection.dictionary, inputs.seed
    )
    vectors = load_file(inputs.parents["probe"].path / DIRECTIONS)
    with Catalogue(inputs.parents["catalogue"].path) as catalogue:
        density = catalogue.densities
    findings: list[Finding] = []
    for done, variable in enumerate(variables):
        progress.update(done, len(variables), "variables")
        chosen = selection.variables[variable]
        held_out = held_out_texts(
            subjects.loaded, by_variable(inputs.concepts())[variable], config.max_texts, inputs.seed
        )
        controls = controls_of(chosen, density, config.n_control, inputs.seed, variable)
        directions = {target: vectors[direction_key(variable, target)] for target in chosen.tasks}
        means = Means(subjects.dictionary.W_dec.detach(), directions, controls)
        own = list(validated(subjects, variable, chosen, held_out, means))
        if not any(finding.kind == "patching" for finding in own):
            progress.say(f"{variable}: fewer than two held-out documents have a twin, so nothing is patched")
        findings += own
    progress.update(len(variables), len(variables), "variables")
    write_findings(folder / "findings.jsonl", with_q(findings))
    return _metrics(findings)


def _metrics(findings: list[Finding]) -> dict[str, Any]:
    effects = {
        f"{f.variable}.{f.kind}.{f.settings['method']}_nats": round(f.effect, 4)
        for f in findings
        if f.settings["level"] == "variable"
    }
    return {**effects, "n_findings": len(findings)}
