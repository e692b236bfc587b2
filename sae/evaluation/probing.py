"""k-sparse probing: how well a few latents tell what a labelled text says.

For each variable of the labelled texts a logistic probe on the k latents that differ most, fitted on train, its place
chosen on validation, judged on test (`sae.probe.latent`; Gurnee et al. 2023, arXiv:2305.01610). Beside it stand the
same probe on the untrained dictionary, which says what the activations give away by themselves, and a probe on all of
the activations, which says what could be told at all. A score is the mean over variables of the balanced accuracy, 0.5
for guessing; documents are resampled within each variable, the same for all dictionaries.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sae.core.config import Strict
from sae.core.random import stream_seed
from sae.dictionary.dictionary import Dictionary
from sae.evaluation.scores import More, Score, score_of
from sae.lm.load import LoadedModel
from sae.probe.choose import Features, Method, choose, chosen_answers
from sae.probe.consequence import read_site
from sae.probe.features import code_features, residual_features
from sae.probe.sample import Sample
from sae.probe.score import accuracy_samples, mean_accuracy
from sae.probe.variable import Encoded

SPARSE: tuple[Method, ...] = ("sparse_1", "sparse_5")
"""What is fitted on every dictionary: 1 latent, and 5."""
ALL: Method = "logistic"
"""What is fitted on the activations themselves."""
ACTIVATIONS = "activations"


class VariableAccuracies(Strict):
    """One variable: balanced accuracies by what is read (a dictionary's name, or `activations`) and by method."""

    variable: str
    n_tasks: int
    n_documents: int
    """Test documents."""
    accuracies: dict[str, dict[str, Score]]


class Told(NamedTuple):
    """A variable's accuracies and their resamples."""

    record: VariableAccuracies
    more: dict[tuple[str, Method], More]
    """By what is read and method."""


def told(
    loaded: LoadedModel, site: str, one: Encoded, dictionaries: Mapping[str, Dictionary], seed: int, n_resamples: int
) -> Told:
    """Probes one variable.

    Args:
        loaded: the model.
        site: where it is read.
        one: the variable's texts; they pose at least one task.
        dictionaries: by name.
        seed: of the resampling.
        n_resamples: bootstrap resamples.
    """
    residual = residual_features(one.prompts, read_site(loaded, site, one.prompts))
    found: dict[tuple[str, Method], More] = {
        (ACTIVATIONS, ALL): _accuracy(one.sample, residual, ALL, seed, n_resamples)
    }
    for name, dictionary in dictionaries.items():
        code = code_features(dictionary, residual)
        for method in SPARSE:
            found[name, method] = _accuracy(one.sample, code, method, seed, n_resamples)
    accuracies: dict[str, dict[str, Score]] = {}
    for (name, method), more in found.items():
        accuracies.setdefault(name, {})[method] = score_of(*more)
    test = one.sample.document[one.sample.rows("test")]
    record = VariableAccuracies(
        variable=one.sample.variable,
        n_tasks=len(one.sample.targets),
        n_documents=len(np.unique(test)),
        accuracies=accuracies,
    )
    return Told(record, found)


def _accuracy(sample: Sample, features: Features, method: Method, seed: int, n_resamples: int) -> More:
    answers = chosen_answers(sample, choose(sample, features, method), features)
    own = stream_seed(seed, "probing", sample.variable)
    return More(mean_accuracy(answers), accuracy_samples(answers, own, n_resamples).samples)


def mean_over_variables(variables: Sequence[Told]) -> dict[str, dict[str, More]]:
    """The scores that stand in the scorecard, by what is read: `sparse_1_accuracy` …; none without variables."""
    found: dict[str, dict[str, More]] = {}
    for name, method in variables[0].more if variables else ():
        several = [one.more[name, method] for one in variables]
        samples: Float[np.ndarray, "resample"] = np.mean([more.samples for more in several], axis=0)
        value = float(np.mean([more.value for more in several]))
        found.setdefault(name, {})[f"{method}_accuracy"] = More(value, samples)
    return found
