"""The interventions that validation compares, each as a change per case.

Beside the best latents stand, for patching, the whole activation (the ceiling), the difference of means (the simple
direction) and the five best latents; and for both, latents that fire as often on ordinary text (the control).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from sae.causal.cases import Cases, Change, stack, union
from sae.causal.displacement import ablation, direction_patch, latent_patch, whole_patch
from sae.core.random import numpy_generator
from sae.probe.control import matched_latents
from sae.probe.selection import TaskSelection, VariableSelection


@dataclass(frozen=True, eq=False)
class Means:
    """How the tasks of one variable are represented."""

    W_dec: Float[Tensor, "d_sae d"]
    directions: Mapping[str, Float[Tensor, "d"]]
    """Difference of means by target."""
    controls: Mapping[str, Int[np.ndarray, "control"]]
    """By target, latents that fire as often as its best latent."""


def controls_of(
    chosen: VariableSelection, density: Float[np.ndarray, "latent"], n: int, seed: int, variable: str
) -> dict[str, Int[np.ndarray, "control"]]:
    """For each task n latents of like density, none of them among the variable's five best of any task."""
    random = numpy_generator(seed, "matched latents", variable)
    exclude = sorted({latent for task in chosen.tasks.values() for latent in task.top_latents})
    return {
        target: matched_latents(density, [task.latent], exclude, n, random)[:, 0]
        for target, task in chosen.tasks.items()
    }


def n_controls(means: Means) -> int:
    """Controls that every task has."""
    return min((len(c) for c in means.controls.values()), default=0)


def ablations(cases: Cases, means: Means) -> tuple[Change, list[Change]]:
    """Removing the best latent, and removing each control in its place."""
    best = _ablate(cases, means, _best)
    return best, [_ablate(cases, means, _control(means, k)) for k in range(n_controls(means))]


def patches(cases: Cases, means: Means) -> tuple[dict[str, Change], list[Change]]:
    """Setting each of several things as in the twin, and each control as in the twin."""
    named = {
        "best latent": _patch(cases, means, _best),
        "top five latents": _patch(cases, means, lambda task: task.top_latents),
        "difference of means": lambda i: direction_patch(
            cases.regions[i], cases.twins[i], stack([means.directions[task.target] for task in cases.tasks[i]])
        ),
        "whole activation": lambda i: whole_patch(cases.regions[i], cases.twins[i]),
    }
    return named, [_patch(cases, means, _control(means, k)) for k in range(n_controls(means))]


Latents = Callable[[TaskSelection], Sequence[int]]
"""Which latents stand for a task."""


def _best(task: TaskSelection) -> Sequence[int]:
    return (task.latent,)


def _control(means: Means, k: int) -> Latents:
    return lambda task: (int(means.controls[task.target][k]),)


def _ablate(cases: Cases, means: Means, latents: Latents) -> Change:
    return lambda i: ablation(cases.regions[i], means.W_dec, union(cases.tasks[i], latents))


def _patch(cases: Cases, means: Means, latents: Latents) -> Change:
    return lambda i: latent_patch(cases.regions[i], cases.twins[i], means.W_dec, union(cases.tasks[i], latents))
