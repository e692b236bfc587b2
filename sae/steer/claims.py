"""The findings of steering: one per task, direction and dose, and one per variable and direction at equal cost.

`settings.level` says which: `variable` for the headline (mean over the labels steered towards, at equal cost), `label`
for one label of several at equal cost, `dose` for a fixed dose.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from sae.core.records import Control, Finding, Interval, Subject
from sae.core.uncertainty import bootstrap_ratio
from sae.probe.control import rank_among
from sae.probe.score import by_document
from sae.probe.selection import TaskSelection, VariableSelection
from sae.steer.dose_response import Measured, Response

LATENT = "best latent"
MEANS = "difference of means"
METHODS = {LATENT: "best_latent", MEANS: "difference_of_means"}
UNIT = "nats of log-odds"


def steering_findings(
    variable: str, chosen: VariableSelection, measured: Sequence[Measured], site: str, dictionary: str, seed: int
) -> Iterator[Finding]:
    """All findings of one variable, the headlines first."""
    targets = list(dict.fromkeys(one.response.target for one in measured))
    tasks = [chosen.tasks[target] for target in targets]
    if len(tasks) > 1:
        for direction in METHODS:
            equal = [one for one in measured if one.response.direction == direction and one.response.at_equal_cost]
            yield _headline(variable, _subject(tasks, direction, site, dictionary), targets, equal, seed)
    for one in sorted(measured, key=lambda one: not one.response.at_equal_cost):
        subject = _subject([chosen.tasks[one.response.target]], one.response.direction, site, dictionary)
        yield _finding(variable, subject, one, "variable" if len(tasks) == 1 else "label")


def _finding(variable: str, subject: Subject, one: Measured, level: str) -> Finding:
    response = one.response
    return Finding(
        kind="steering",
        variable=variable,
        subject=subject,
        effect=response.effect,
        unit=UNIT,
        direction=f"above zero: the push makes the words for {response.target} likelier against those for other labels",
        interval=Interval(low=response.low, high=response.high),
        n_documents=response.n_documents,
        control=_control(one.row.random),
        p=response.p,
        settings=_settings(response, level if response.at_equal_cost else "dose"),
    )


def _settings(response: Response, level: str) -> dict[str, object]:
    kept = ("target", "direction", "dose", "at_equal_cost", "kl_nats", "kl_low", "kl_high", "random_kl_nats")
    return {
        "method": METHODS[response.direction],
        "level": level,
        **{name: getattr(response, name) for name in kept},
    }


def _headline(variable: str, subject: Subject, targets: Sequence[str], equal: Sequence[Measured], seed: int) -> Finding:
    effects = np.mean([one.row.effects for one in equal], 0)
    random = np.mean([one.row.random for one in equal], 0)
    sums, counts = by_document(effects, equal[0].row.document)
    return Finding(
        kind="steering",
        variable=variable,
        subject=subject,
        effect=float(effects.mean()),
        unit=UNIT,
        direction="above zero: a push towards a label makes its words likelier against those for other labels",
        interval=bootstrap_ratio(sums, counts, seed),
        n_documents=len(sums),
        control=_control(random),
        p=rank_among(float(effects.mean()), random),
        settings={
            "method": METHODS[equal[0].response.direction],
            "level": "variable",
            "targets": list(targets),
            "direction": equal[0].response.direction,
            "at_equal_cost": True,
            "kl_nats": float(np.mean([one.response.kl_nats for one in equal])),
        },
    )


def _control(random: np.ndarray) -> Control:
    low, high = np.quantile(random, [0.025, 0.975])
    return Control(
        what=f"{len(random)} random directions of equal length: their mean, and where 95 % of them lie",
        effect=float(random.mean()),
        interval=Interval(low=float(low), high=float(high)),
    )


def _subject(tasks: Sequence[TaskSelection], direction: str, site: str, dictionary: str) -> Subject:
    towards = tasks[0].target if len(tasks) == 1 else "each label"
    if direction == MEANS:
        return Subject(kind="direction", site=site, name=f"difference of means towards {towards}")
    latents = tuple(dict.fromkeys(task.latent for task in tasks))
    sign = "along" if all(task.sign > 0 for task in tasks) else "against"
    name = f"push {sign} the best latent's decoder row, towards {towards}"
    return Subject(
        kind="latent" if len(latents) == 1 else "latents", site=site, dictionary=dictionary, latents=latents, name=name
    )
