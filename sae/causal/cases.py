"""The held-out texts of one variable with everything that a causal test of them needs.

A text's *own* latent is the one that validation chose for its label: of two labels, both have the same task, and the
latent fires for one of them. Ablation asks of texts whose label the latent fires for; patching, of texts with a twin.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.causal.displacement import Region, region_of
from sae.core.errors import InputError
from sae.dictionary import Dictionary
from sae.lm.load import LoadedModel
from sae.probe.consequence import read_site
from sae.probe.prompt import Prompt, twin_prompt
from sae.probe.selection import TaskSelection, VariableSelection
from sae.probe.variable import HeldOut


class Cases(NamedTuple):
    """Texts on which one kind of intervention is tried."""

    prompts: list[Prompt]
    label: Int[np.ndarray, "case"]
    """Index of the label whose log-odds are read: the text's own for ablation, the twin's for patching."""
    document: Int[np.ndarray, "case"]
    tasks: list[list[TaskSelection]]
    """The tasks whose latents stand for the labels involved: one for two labels, else the text's and the twin's."""
    regions: list[Region]
    twins: list[Region]
    """Empty for ablation."""


def ablation_cases(
    loaded: LoadedModel, dictionary: Dictionary, site: str, held_out: HeldOut, chosen: VariableSelection
) -> Cases:
    """Texts whose label some best latent fires for."""
    by_label = {task.label: task for task in chosen.tasks.values()}
    kept = [i for i, label in enumerate(held_out.label) if chosen.labels[label] in by_label]
    some = held_out.only(kept)
    regions = _regions(loaded, dictionary, site, some.prompts)
    tasks = [[by_label[chosen.labels[label]]] for label in some.label]
    return Cases(some.prompts, some.label, some.document, tasks, regions, [])


def patch_cases(
    loaded: LoadedModel, dictionary: Dictionary, site: str, held_out: HeldOut, chosen: VariableSelection
) -> Cases:
    """Texts with a usable twin of another label, at least one of the two labels having a task."""
    by_label = chosen.by_label()
    kept, twins, labels, tasks = [], [], [], []
    for i, (text, prompt) in enumerate(zip(held_out.texts, held_out.prompts, strict=True)):
        twin = None if text.twin is None else usable_twin(loaded, held_out, i)
        if text.twin is None or twin is None or text.twin.label not in chosen.labels or text.twin.label == text.label:
            continue
        involved = [by_label[label] for label in (text.label, text.twin.label) if label in by_label]
        label = chosen.labels.index(text.twin.label)
        if involved and prompt.label_tokens[label] >= 0:
            kept.append(i)
            twins.append(twin)
            labels.append(label)
            tasks.append(list({task.target: task for task in involved}.values()))
    some = held_out.only(kept)
    regions, others = (_regions(loaded, dictionary, site, several) for several in (some.prompts, twins))
    return Cases(some.prompts, np.array(labels, dtype=np.int64), some.document, tasks, regions, others)


def usable_twin(loaded: LoadedModel, held_out: HeldOut, i: int) -> Prompt | None:
    """The twin of a text, None where the tokenizer or the model's length cannot take it."""
    try:
        return twin_prompt(loaded, held_out.texts[i], held_out.prompts[i])
    except InputError:
        return None


def _regions(loaded: LoadedModel, dictionary: Dictionary, site: str, prompts: Sequence[Prompt]) -> list[Region]:
    activations = read_site(loaded, site, prompts)
    return [region_of(dictionary, prompt, x) for prompt, x in zip(prompts, activations, strict=True)]


Change = Callable[[int], Float[Tensor, "region d"]]
"""What to add over the region of the case of a given index."""


def union(tasks: Sequence[TaskSelection], latents: Callable[[TaskSelection], Sequence[int]]) -> list[int]:
    """Latents of all the tasks of a case, each once."""
    return list(dict.fromkeys(latent for task in tasks for latent in latents(task)))


def stack(vectors: Sequence[Float[Tensor, "d"]]) -> Float[Tensor, "k d"]:
    """Several directions as rows."""
    return torch.stack(list(vectors))
