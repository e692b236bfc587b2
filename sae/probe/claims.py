"""The findings of probing: how well each probe tells held-out texts' labels, beside its control."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from sae.core.records import Control, Finding, Subject
from sae.core.uncertainty import bootstrap_mean, false_discovery
from sae.probe.choose import (
    LATENT_METHODS,
    RESIDUAL_METHODS,
    Chosen,
    Features,
    Method,
    choose,
    chosen_answers,
    matched_answers,
    shuffled_answers,
)
from sae.probe.sample import Sample
from sae.probe.score import Accuracy, Answers, accuracy_interval, accuracy_of, mean_accuracy

NAMES: dict[Method, str] = {
    "logistic": "logistic probe on the residual stream",
    "difference_of_means": "difference of means",
    "best_latent": "best single latent",
    "sparse_1": "logistic probe on the one latent that differs most",
    "sparse_5": "logistic probe on the five latents that differ most",
}
SHUFFLED = "the same probe, fitted on shuffled labels"
UNTRAINED = "the same search in the untrained dictionary"
MATCHED = "the same method on other latents that fire as often"
N_DRAWS = 20
"""Draws of a control for a variable of two labels; a quarter with more, each being a mean over many tasks."""


@dataclass(frozen=True)
class Evidence:
    """Everything that is known of one variable's texts."""

    sample: Sample
    site: str
    dictionary: str
    """Hash."""
    residual: Features
    code: Features
    untrained: Features | None
    """Code of the untrained dictionary, if there is one."""
    seed: int

    def of(self, method: Method) -> Features:
        """What a method reads."""
        return self.residual if method in RESIDUAL_METHODS else self.code


def probe_findings(evidence: Evidence, chosen: Mapping[Method, Chosen]) -> Iterator[Finding]:
    """A finding for each method, and for the best latent one per label where there are more than two."""
    for method, one in chosen.items():
        said = chosen_answers(evidence.sample, one, evidence.of(method))
        control = _control(evidence, one)
        yield _finding(evidence, one, said, control, "variable")
        if method == "best_latent" and not evidence.sample.binary:
            for i, target in enumerate(evidence.sample.targets):
                alone = replace(one, rules={target: one.rules[target]})
                yield _finding(evidence, alone, said.task(i), _of_task(control, i), "label")


def _control(evidence: Evidence, chosen: Chosen) -> tuple[str, list[Answers]]:
    """What stands beside a probe, and what each draw of it says; the untrained dictionary is one draw."""
    sample, features = evidence.sample, evidence.of(chosen.method)
    if chosen.method in LATENT_METHODS and evidence.untrained is not None:
        best = choose(sample, evidence.untrained, chosen.method)
        return UNTRAINED, [chosen_answers(sample, best, evidence.untrained)]
    n = N_DRAWS if sample.binary else max(1, N_DRAWS // 4)
    if chosen.method in LATENT_METHODS:
        matched = matched_answers(sample, chosen, features, evidence.seed, n)
        if matched:
            return MATCHED, matched
    return SHUFFLED, shuffled_answers(sample, chosen, features, evidence.seed, n)


def _of_task(control: tuple[str, list[Answers]], i: int) -> tuple[str, list[Answers]]:
    """The control of one task where it covers all of them, as those of latents do; else that of the variable."""
    what, draws = control
    return (what, draws) if what == SHUFFLED else (what, [draw.task(i) for draw in draws])


def _control_record(control: tuple[str, list[Answers]], seed: int) -> Control:
    """The interval is by document for one draw, of the mean over draws for several."""
    what, draws = control
    if len(draws) == 1:
        return Control(what=what, effect=mean_accuracy(draws[0]), interval=accuracy_interval(draws[0], seed))
    accuracies = np.array([mean_accuracy(draw) for draw in draws])
    what = f"{what} (mean of {len(draws)} draws)"
    return Control(what=what, effect=float(accuracies.mean()), interval=bootstrap_mean(accuracies, seed))


def _finding(
    evidence: Evidence, chosen: Chosen, said: Answers, control: tuple[str, list[Answers]], level: str
) -> Finding:
    test, variable, targets = accuracy_of(said, evidence.seed), evidence.sample.variable, tuple(chosen.rules)
    return Finding(
        kind="probe",
        variable=variable,
        subject=_subject(evidence, chosen, targets),
        effect=test.value,
        unit="balanced accuracy",
        direction=_direction(variable, targets, level),
        interval=test.interval,
        n_documents=test.n_documents,
        control=_control_record(control, evidence.seed),
        p=test.p,
        settings=_settings(chosen, targets, level, test),
    )


def _subject(evidence: Evidence, chosen: Chosen, targets: tuple[str, ...]) -> Subject:
    name, site = NAMES[chosen.method], evidence.site
    if chosen.method == "logistic":
        return Subject(kind="probe", site=site, name=name)
    if chosen.method == "difference_of_means":
        return Subject(kind="direction", site=site, name=name)
    latents = tuple(dict.fromkeys(int(j) for target in targets for j in chosen.rules[target].columns))
    kind = "latent" if len(latents) == 1 else "latents"
    return Subject(kind=kind, site=site, dictionary=evidence.dictionary, latents=latents, name=name)


def _direction(variable: str, targets: tuple[str, ...], level: str) -> str:
    what = f"whether its {variable} is {targets[0]}" if level == "label" else f"its {variable}"
    return f"1 means that of every held-out text it tells {what}; 0.5 is guessing"


def _settings(chosen: Chosen, targets: tuple[str, ...], level: str, test: Accuracy) -> dict[str, object]:
    scores = [chosen.validation[target] for target in targets]
    return {
        "method": chosen.method,
        "level": level,
        "targets": list(targets),
        "position": chosen.position,
        "auc": test.auc,
        "validation_accuracy": sum(accuracy for accuracy, _ in scores) / len(scores),
    }


def with_q(findings: list[Finding]) -> list[Finding]:
    """The same findings with Benjamini–Hochberg q values over all of them."""
    q_values = false_discovery([finding.p for finding in findings])
    return [finding.model_copy(update={"q": q}) for finding, q in zip(findings, q_values, strict=True)]
