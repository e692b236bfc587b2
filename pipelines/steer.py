"""Steer stage: what a push along a concept's direction does to what the model says next, and what it costs."""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from safetensors.torch import load_file

from pipelines.stage import Inputs, Progress
from sae.activations.reader import Activations
from sae.core.config import Strict
from sae.core.errors import InputError
from sae.core.records import Finding, write_findings
from sae.core.splits import Split
from sae.dictionary import load
from sae.probe.claims import with_q
from sae.probe.selection import DIRECTIONS, VariableSelection, direction_key, read_selection
from sae.probe.variable import by_variable, held_out_texts
from sae.steer.claims import METHODS, steering_findings
from sae.steer.cost import neutral_documents
from sae.steer.dose_response import (
    Bench,
    Measured,
    Target,
    Texts,
    random_costs,
    random_responses,
    responses,
    texts_of,
)
from sae.steer.push import random_directions

VERSION = 1


class SteerConfig(Strict):
    """How directions are tried as steering vectors."""

    variables: tuple[str, ...] = ()
    """Variables to steer; empty for all that have a consequence."""
    doses: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    """Lengths of the push, in units of the site's spread σ = √(E‖x − μ‖²)."""
    n_random: int = Field(default=40, ge=1)
    """Random directions of equal length, the control; no p can be below 1/(n_random + 1)."""
    max_tasks: int = Field(default=4, ge=1)
    """Labels steered towards per variable, those that the best latent told best on validation."""
    max_texts: int = Field(default=48, ge=2)
    """Test texts per variable, at most."""
    n_neutral: int = Field(default=64, ge=2)
    """Documents of neutral text on which the cost is measured, in each of validation and test."""
    max_neutral_tokens: int = Field(default=32, ge=2)
    """Tokens of each of them, from its beginning."""
    kl_budget: float = Field(default=0.1, gt=0)
    """Nats per token at which directions are compared at equal cost."""

    @field_validator("doses")
    @classmethod
    def _positive(cls, doses: tuple[float, ...]) -> tuple[float, ...]:
        if not doses or min(doses) <= 0 or len(set(doses)) < len(doses):
            raise InputError(f"needs one or more different doses above zero, got {list(doses)}")
        return doses


def run(config: SteerConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Writes findings.jsonl and dose_response.json; says each variable's effects at equal cost.

    Raises:
        InputError: a variable that was not probed or has no consequence; too little text.
    """
    selection = read_selection(inputs.parents["probe"].path)
    variables = selection.steerable(config.variables)
    bench = _bench(config, inputs, selection.site)
    costs = random_costs(bench, config.doses)
    table: dict[str, list[Measured]] = {}
    findings: list[Finding] = []
    for done, variable in enumerate(variables):
        progress.update(done, len(variables), "variables")
        chosen = selection.variables[variable]
        targets = _targets(config, inputs, variable, chosen, progress)
        texts = _texts(config, inputs, bench, variable, targets)
        null = random_responses(bench, texts, config.doses, costs)
        table[variable] = [
            m for t in targets for m in responses(bench, texts, t, tuple(METHODS), null, config.kl_budget)
        ]
        site, dictionary = selection.site, selection.dictionary
        findings += steering_findings(variable, chosen, table[variable], site, dictionary, inputs.seed)
    progress.update(len(variables), len(variables), "variables")
    write_findings(folder / "findings.jsonl", with_q(findings))
    plain = {variable: [one.response.model_dump() for one in several] for variable, several in table.items()}
    (folder / "dose_response.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    return _metrics(findings)


def _bench(config: SteerConfig, inputs: Inputs, site: str) -> Bench:
    """The model, neutral text and random directions."""
    activations = Activations(inputs.parents["harvest"].path)
    neutral: dict[Split, list[Any]] = {}
    for split in ("validation", "test"):
        documents = [document.ids for document in activations.tokens.documents(split)]
        neutral[split] = neutral_documents(documents, config.n_neutral, config.max_neutral_tokens, inputs.seed)
        if len(neutral[split]) < 2:
            raise InputError(
                f"the text's {split} split has {len(neutral[split])} documents; steering needs two: give more text"
            )
    sigma = activations.moments(site).total_variance ** 0.5
    random = random_directions(activations.d(site), config.n_random, inputs.seed)
    return Bench(inputs.model(), site, sigma, neutral["validation"], neutral["test"], random, inputs.seed)


def _targets(
    config: SteerConfig, inputs: Inputs, variable: str, chosen: VariableSelection, progress: Progress
) -> list[Target]:
    """The labels to push towards, each with its two directions."""
    decoder = load(inputs.parents["train"].path).W_dec.detach()
    means = load_file(inputs.parents["probe"].path / DIRECTIONS)
    best = sorted(chosen.tasks.values(), key=lambda task: -task.validation["best_latent"])[: config.max_tasks]
    if len(best) < len(chosen.tasks):
        names = ", ".join(task.target for task in best)
        progress.say(f"{variable}: steered towards {len(best)} of its {len(chosen.tasks)} labels: {names}")
    targets = []
    for task in best:
        latent, mean = task.sign * decoder[task.latent], means[direction_key(variable, task.target)]
        vectors = torch.nn.functional.normalize(torch.stack([latent, mean]))
        targets.append(Target(task.target, chosen.labels.index(task.target), vectors))
    return targets


def _texts(config: SteerConfig, inputs: Inputs, bench: Bench, variable: str, targets: list[Target]) -> Texts:
    """Test texts in which every target has a word for its label."""
    texts = by_variable(inputs.concepts())[variable]
    held_out = held_out_texts(bench.loaded, texts, config.max_texts, inputs.seed)
    tokens = [prompt.label_tokens for prompt in held_out.prompts]
    some = held_out.only([i for i, t in enumerate(tokens) if min(t[target.label] for target in targets) >= 0])
    if len(set(some.document.tolist())) < 2:
        raise InputError(
            f"variable {variable!r} has fewer than two test documents whose consequence can say its labels"
        )
    return texts_of(bench, some.prompts, some.document)


def _metrics(findings: list[Finding]) -> dict[str, Any]:
    """The headlines: effects at equal cost."""
    headlines = [f for f in findings if f.settings["level"] == "variable"]
    effects = {f"{f.variable}.{f.settings['method']}_nats_at_equal_cost": round(f.effect, 4) for f in headlines}
    return {**effects, "n_findings": len(findings)}
