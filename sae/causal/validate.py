"""Causal validation of one variable: the best latent removed, and set as in the twin, beside its controls.

1. Ablation: on test texts whose label the best latent fires for, it is set to zero from the span to the prediction.
2. Patching: on test texts with a twin, it is set there to its value in the twin. With many labels, the best latents of
   the text's and of the twin's label are both set.
3. The same is done to latents of like density; p is the rank among them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sae.causal.cases import Cases, ablation_cases, patch_cases
from sae.causal.claims import METHODS, Compared, claim, share_of
from sae.causal.effect import effects
from sae.causal.interventions import Means, ablations, patches
from sae.core.records import Finding, Subject
from sae.dictionary import Dictionary
from sae.lm.load import LoadedModel
from sae.probe.selection import VariableSelection
from sae.probe.variable import HeldOut


@dataclass(frozen=True, eq=False)
class Subjects:
    """What is validated: a dictionary's latents at a site of a model."""

    loaded: LoadedModel
    dictionary: Dictionary
    site: str
    hash: str
    """Of the dictionary."""
    seed: int


def validated(
    subjects: Subjects, variable: str, chosen: VariableSelection, held_out: HeldOut, means: Means
) -> Iterator[Finding]:
    """All findings of one variable; none for an intervention with fewer than two documents to try it on."""
    yield from _ablation_findings(subjects, variable, chosen, held_out, means)
    yield from _patch_findings(subjects, variable, chosen, held_out, means)


def _ablation_findings(
    subjects: Subjects, variable: str, chosen: VariableSelection, held_out: HeldOut, means: Means
) -> Iterator[Finding]:
    cases = ablation_cases(subjects.loaded, subjects.dictionary, subjects.site, held_out, chosen)
    if _too_few(cases):
        return
    best, controls = ablations(cases, means)
    loss = -effects(subjects.loaded, subjects.site, cases.prompts, cases.label, [best, *controls])
    tested = Compared(loss[0], loss[1:], cases.document)
    settings: dict[str, object] = {"method": "best_latent", "level": "variable", "intervention": "set to zero"}
    subject = _latents(subjects, tuple(task.latent for task in chosen.tasks.values()), "best latent")
    yield claim("ablation", variable, subject, tested, settings, subjects.seed)
    if len(chosen.labels) == 2:
        return
    for task in chosen.tasks.values():
        alone = tested.of(np.array([i for i, tasks in enumerate(cases.tasks) if task in tasks], dtype=np.int64))
        if alone.n_documents >= 2:
            one = {**settings, "level": "label", "target": task.target}
            yield claim(
                "ablation", variable, _latents(subjects, (task.latent,), "best latent"), alone, one, subjects.seed
            )


def _patch_findings(
    subjects: Subjects, variable: str, chosen: VariableSelection, held_out: HeldOut, means: Means
) -> Iterator[Finding]:
    cases = patch_cases(subjects.loaded, subjects.dictionary, subjects.site, held_out, chosen)
    if _too_few(cases):
        return
    named, controls = patches(cases, means)
    changes = [*named.values(), *controls]
    gain = effects(subjects.loaded, subjects.site, cases.prompts, cases.label, changes)
    tested = {name: Compared(row, gain[len(named) :], cases.document) for name, row in zip(named, gain, strict=False)}
    for name, one in tested.items():
        settings: dict[str, object] = {
            "method": METHODS[name],
            "level": "variable",
            "intervention": "set as in the twin",
            "share_of_whole": share_of(one, tested["whole activation"], subjects.seed),
        }
        yield claim("patching", variable, _patched(subjects, name, chosen), one, settings, subjects.seed)


def _patched(subjects: Subjects, name: str, chosen: VariableSelection) -> Subject:
    tasks = chosen.tasks.values()
    match name:
        case "best latent":
            return _latents(subjects, tuple(task.latent for task in tasks), name)
        case "top five latents":
            return _latents(subjects, tuple(latent for task in tasks for latent in task.top_latents), name)
        case "difference of means":
            return Subject(kind="direction", site=subjects.site, name=name)
        case _:
            return Subject(kind="site", site=subjects.site, name=f"{name}: the most that this site can do")


def _latents(subjects: Subjects, latents: tuple[int, ...], name: str) -> Subject:
    once = tuple(dict.fromkeys(latents))
    kind = "latent" if len(once) == 1 else "latents"
    return Subject(kind=kind, site=subjects.site, dictionary=subjects.hash, latents=once, name=name)


def _too_few(cases: Cases) -> bool:
    return len(np.unique(cases.document)) < 2
