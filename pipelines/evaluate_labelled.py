"""The part of *evaluate* that needs labels: k-sparse probing on texts, absorption on the microworld's nouns."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pipelines.stage import Inputs, Progress
from sae import microworld
from sae.activations.reader import Activations
from sae.core.config import canonical_hash
from sae.core.errors import InputError
from sae.core.records import LabelledText
from sae.core.uncertainty import resampling_weights
from sae.dictionary import Dictionary
from sae.dictionary.sites import SpliceSites
from sae.evaluation.absorbed_classes import Absorption, absorption_of, more_of
from sae.evaluation.absorption import absorbed
from sae.evaluation.nouns import placed_nouns
from sae.evaluation.probing import Told, VariableAccuracies, mean_over_variables, told
from sae.evaluation.scores import More
from sae.lm.source import fingerprint
from sae.probe.variable import Encoded, by_variable, encoded

_NOUNS = 20_000
"""Nouns of the validation split that latents are chosen on, and of the test split that are judged, at most."""


class Place(NamedTuple):
    """Where dictionaries are scored."""

    activations: Activations
    sites: SpliceSites
    units: Int[np.ndarray, "document"]
    """For every document its number among the resampled ones, −1 for the others."""


class Labelled(NamedTuple):
    """Scores by contender, and their records."""

    more: dict[str, dict[str, More]]
    absorption: dict[str, Absorption]
    """By dictionary; empty where no hierarchy is known."""
    probing: tuple[VariableAccuracies, ...]
    notes: tuple[str, ...]
    concepts: str
    """What the labelled texts are, as a hash."""


def labelled_scores(
    inputs: Inputs,
    place: Place,
    dictionaries: Mapping[str, Dictionary],
    probe_texts: int,
    n_resamples: int,
    progress: Progress,
) -> Labelled:
    """Everything that labels say of the dictionaries, by name.

    Args:
        inputs: of the stage.
        place: where they are scored.
        dictionaries: by name.
        probe_texts: labelled texts per variable, at most; 0 for none.
        n_resamples: bootstrap resamples.
        progress: told which variable is probed.
    """
    # Labelled texts are few, and their probes are fitted on the processor.
    dictionaries = {name: dictionary.copy().to("cpu") for name, dictionary in dictionaries.items()}
    absorption, more = _absorption(inputs, place, dictionaries, n_resamples)
    nobody = any(found.n_found == 0 for found in absorption.values())
    notes = ["absorbed_fraction is undefined where no class of nouns has a latent of its own"] if nobody else []
    texts = by_variable(inputs.concepts()) if probe_texts else {}
    site, *others = place.sites.read
    if texts and others:
        texts = {}
        notes.append("no probing: the dictionary reads several sites")
    variables: list[Told] = []
    for done, (variable, some) in enumerate(texts.items()):
        progress.update(done, len(texts), "variables probed")
        one = _usable(inputs, some, probe_texts)
        if isinstance(one, str):
            notes.append(f"{variable} is not probed: {one}")
        else:
            variables.append(told(inputs.model(), site, one, dictionaries, inputs.seed, n_resamples))
    for name, scores in mean_over_variables(variables).items():
        more.setdefault(name, {}).update(scores)
    records = tuple(one.record for one in variables)
    concepts = canonical_hash([text for some in texts.values() for text in some])
    return Labelled(more, absorption, records, tuple(notes), concepts)


def _usable(inputs: Inputs, texts: Sequence[LabelledText], n: int) -> Encoded | str:
    """One variable's texts, or why they pose no task."""
    try:
        one = encoded(inputs.model(), texts, n, inputs.seed)
    except InputError as error:
        return str(error)
    return one if one.sample.targets else "too few documents of its labels in some split"


def _absorption(
    inputs: Inputs, place: Place, dictionaries: Mapping[str, Dictionary], n_resamples: int
) -> tuple[dict[str, Absorption], dict[str, dict[str, More]]]:
    """On the nouns of the microworld, where its own model reads its own language; nothing elsewhere."""
    if inputs.model_fingerprint() != fingerprint(microworld.folder()):
        return {}, {}
    activations, sites, units = place
    n = int(units.max()) + 1
    weights: Float[np.ndarray, "resample document"] = (
        resampling_weights(n, n_resamples, inputs.seed).astype(float) if n > 1 else np.zeros((0, n))
    )
    records: dict[str, Absorption] = {}
    more: dict[str, dict[str, More]] = {}
    for name, dictionary in dictionaries.items():
        choose = placed_nouns(activations, "validation", sites, dictionary, np.zeros_like(units), _NOUNS)
        judge = placed_nouns(activations, "test", sites, dictionary, units, _NOUNS)
        classes = absorbed(choose, judge, dictionary.W_dec.detach().float().cpu().numpy(), n)
        if classes:
            records[name] = absorption_of(classes, weights)
            more[name] = {"absorbed_fraction": more_of(classes, weights)}
    return records, more
