"""From sums per document to scores with intervals.

With weights w over the documents (ones for the value, multinomial counts for a resample):

    fvu = w·E / w·V                                E = Σ‖x − y‖², V = Σ‖x − x̄‖²
    ce_loss_recovered = w·(CE_zero − CE_spliced) / w·(CE_zero − CE_model)

The mean x̄ is that of all documents and stays what it is in every resample: about a resample's own mean its variance
would be smaller, and its fvu larger, than that of fresh documents.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from sae.core.config import Strict
from sae.core.uncertainty import percentile_interval, resampling_weights
from sae.evaluation.firing import recentred
from sae.evaluation.sums import ContenderSums, TextSums

Weights = Float[np.ndarray, "resample document"]
Samples = dict[str, Float[np.ndarray, "_"]]

SMALLEST_EFFECT_NATS = 1e-6
"""An ablation that changes the loss by less is rounding: nothing can be recovered of it."""
COMPARED = ("fvu", "delta_ce_nats")
"""Metrics whose differences between contenders are reported."""


class Score(Strict):
    """A number and its interval; null where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


Table = dict[str, dict[str, Score]]


class Scores(Strict):
    """The scores of all contenders on the same documents."""

    model: dict[str, Score]
    """The model as it is."""
    contenders: Table
    differences: Table
    """First contender minus each other, paired over documents."""
    notes: tuple[str, ...]


def score(
    text: TextSums, contenders: Mapping[str, ContenderSums], seed: int, n_resamples: int = 1000, level: float = 0.95
) -> Scores:
    """Scores with percentile intervals over resampled documents.

    Args:
        text: sums of the model and its activations.
        contenders: sums by name; the first is compared with the others, `zero_ablation` and `mean_ablation` are the
            floors of the recovered loss where they are there.
        seed: seed of the resampling.
        n_resamples: bootstrap resamples; the same for all contenders.
        level: confidence.
    """
    n_documents = len(text.n_tokens)
    once, resamples = np.ones((1, n_documents)), _resamples(n_documents, n_resamples, seed)
    values, samples = (_samples(weights, text, contenders) for weights in (once, resamples))
    for name, own in samples.items():
        if "dead_fraction" in own and len(resamples):
            own["dead_fraction"] = recentred(own["dead_fraction"], float(values[name]["dead_fraction"][0]))
    table = {name: _scores(values[name], samples[name], level) for name in contenders}
    model = _scores({"ce_nats": _mean_ce(once, text)}, {"ce_nats": _mean_ce(resamples, text)}, level)
    differences = _differences(values, samples, level)
    return Scores(model=model, contenders=table, differences=differences, notes=_notes(table, n_documents))


def _resamples(n_documents: int, n_resamples: int, seed: int) -> Weights:
    """Bootstrap weights; no rows where there are too few documents for an interval."""
    if n_documents < 2:
        return np.zeros((0, n_documents))
    return resampling_weights(n_documents, n_resamples, seed).astype(float)


def _samples(weights: Weights, text: TextSums, contenders: Mapping[str, ContenderSums]) -> dict[str, Samples]:
    variance = _variance(weights, text)
    return {name: _of_contender(weights, text, sums, contenders, variance) for name, sums in contenders.items()}


def _of_contender(
    weights: Weights,
    text: TextSums,
    own: ContenderSums,
    contenders: Mapping[str, ContenderSums],
    variance: Float[np.ndarray, "resample"],
) -> Samples:
    n_tokens, n_targets = weights @ text.n_tokens, weights @ text.n_targets
    ce = _ratio(weights @ own.ce, n_targets)
    samples = {"fvu": _ratio(weights @ own.squared_error, variance), "l0": _ratio(weights @ own.n_active, n_tokens)}
    if own.firing.n_latents:
        samples["dead_fraction"] = own.firing.dead_fractions(weights)
    samples |= {"ce_nats": ce, "delta_ce_nats": ce - _mean_ce(weights, text)}
    for metric, floor in (("ce_loss_recovered", "zero_ablation"), ("ce_loss_recovered_mean", "mean_ablation")):
        if floor in contenders:
            samples[metric] = _recovered(weights, text, own, contenders[floor])
    samples["kl_nats"] = _ratio(weights @ own.kl, n_targets)
    return samples


def _variance(weights: Weights, text: TextSums) -> Float[np.ndarray, "resample"]:
    if text.n_tokens.sum() == 0:
        return np.zeros(len(weights))
    offset = text.sums.sum(0) / text.n_tokens.sum()
    deviations = text.squares - 2 * text.sums @ offset + text.n_tokens * (offset @ offset)
    variance = weights @ deviations
    # Equal activations leave a rest of rounding, not zero.
    return np.where(variance > 1e-12 * (weights @ text.squares), variance, 0)


def _recovered(
    weights: Weights, text: TextSums, own: ContenderSums, floor: ContenderSums
) -> Float[np.ndarray, "resample"]:
    effect = weights @ (floor.ce - text.ce)
    real = np.abs(effect) > SMALLEST_EFFECT_NATS * (weights @ text.n_targets)
    return _ratio(weights @ (floor.ce - own.ce), np.where(real, effect, 0))


def _mean_ce(weights: Weights, text: TextSums) -> Float[np.ndarray, "resample"]:
    return _ratio(weights @ text.ce, weights @ text.n_targets)


def _ratio(a: Float[np.ndarray, "resample"], b: Float[np.ndarray, "resample"]) -> Float[np.ndarray, "resample"]:
    """a / b, not a number where b is zero."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b != 0)


def _differences(values: dict[str, Samples], samples: dict[str, Samples], level: float) -> Table:
    first, *others = values
    return {
        other: _scores(
            {m: values[first][m] - values[other][m] for m in COMPARED},
            {m: samples[first][m] - samples[other][m] for m in COMPARED},
            level,
        )
        for other in others
    }


def _scores(values: Samples, samples: Samples, level: float) -> dict[str, Score]:
    return {metric: _score(float(value[0]), samples[metric], level) for metric, value in values.items()}


def _score(value: float, samples: Float[np.ndarray, "resample"], level: float) -> Score:
    if not np.isfinite(value):
        return Score(value=None, low=None, high=None)
    if not np.isfinite(samples).any():
        return Score(value=value, low=None, high=None)
    interval = percentile_interval(samples, level)
    return Score(value=value, low=interval.low, high=interval.high)


WHY_UNDEFINED = {
    "fvu": "all activations are equal",
    "l0": "no tokens",
    "ce_loss_recovered": "zero ablation does not change the loss",
    "ce_loss_recovered_mean": "mean ablation does not change the loss",
}


def _notes(table: Table, n_documents: int) -> tuple[str, ...]:
    undefined = dict.fromkeys(m for scores in table.values() for m, s in scores.items() if s.value is None)
    notes = [f"{metric} is undefined: {WHY_UNDEFINED.get(metric, 'no next tokens to predict')}" for metric in undefined]
    if n_documents < 2:
        notes.append(f"no intervals: they need at least two documents, there is {n_documents}")
    return tuple(notes)
