"""Every score of a contender under any weighting of the documents.

With weights w over the documents (ones for the value, multinomial counts for a resample), all sums over tokens:

    fvu = w·E / w·V                                E = Σ‖x − y‖², V = Σ‖x − x̄‖²
    cosine = w·Σ cos(x, y) / w·n                   relative_norm = w·Σ‖y‖ / w·Σ‖x‖
    l0, l0_std                                     mean and standard deviation over tokens of the active latents
    dead_fraction, dense_fraction                  latents of density 0, and above `DENSE`
    description_bits                               `sae.evaluation.description`
    ce_loss_recovered = w·(CE_floor − CE_spliced) / w·(CE_floor − CE_model)    floor: zero, mean or resample ablation

The mean x̄ is that of all documents and stays what it is in every resample: about a resample's own mean its variance
would be smaller, and its fvu larger, than that of fresh documents. Cosine and norm are about zero, as others report
them; where the mean is large, both come near 1 by themselves, so read FVU first.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sae.evaluation.description import entropy_bits, yes_or_no_bits
from sae.evaluation.sums import ContenderSums, TextSums

Weights = Float[np.ndarray, "resample document"]
Samples = dict[str, Float[np.ndarray, "_"]]

SMALLEST_EFFECT_NATS = 1e-6
"""An ablation that changes the loss by less is rounding: nothing can be recovered of it."""
DENSE = 0.1
"""Density above which a latent is dense: it fires on more than a tenth of all tokens."""
FLOORS = {
    "ce_loss_recovered": "zero_ablation",
    "ce_loss_recovered_mean": "mean_ablation",
    "ce_loss_recovered_resample": "resample_ablation",
}
HISTOGRAM_EDGES = np.arange(-24, 1) / 4
"""Of the density histogram, in log₁₀; what is rarer falls into the first bin."""


def samples_of(weights: Weights, text: TextSums, contenders: Mapping[str, ContenderSums]) -> dict[str, Samples]:
    """The scores of all contenders, a number for every weighting."""
    variance = weights @ deviations(text)
    return {name: _of_contender(weights, text, sums, contenders, variance) for name, sums in contenders.items()}


def deviations(text: TextSums) -> Float[np.ndarray, "document"]:
    """Σ‖x − x̄‖² of each document, about the mean of all."""
    if text.n_tokens.sum() == 0:
        return np.zeros_like(text.squares)
    offset = text.sums.sum(0) / text.n_tokens.sum()
    found = text.squares - 2 * text.sums @ offset + text.n_tokens * (offset @ offset)
    # Equal activations leave a rest of rounding, not zero.
    return found if found.sum() > 1e-12 * text.squares.sum() else np.zeros_like(found)


def mean_ce(weights: Weights, text: TextSums) -> Float[np.ndarray, "resample"]:
    """The loss of the model as it is."""
    return _ratio(weights @ text.ce, weights @ text.n_targets)


class Densities(NamedTuple):
    """What follows from how often each latent fires, for every weighting."""

    dense_fraction: Float[np.ndarray, "resample"]
    position_bits: Float[np.ndarray, "resample"]
    """Σ_i H₂(p_i)."""
    histogram: Float[np.ndarray, "resample bin"]
    """Latents in each bin of log₁₀ density; those that never fire are in none."""


def densities_of(weights: Weights, text: TextSums, own: ContenderSums) -> Densities:
    """Densities of a contender's latents under every weighting."""
    n_bins = len(HISTOGRAM_EDGES) - 1
    dense, bits, histograms = [np.zeros(0)], [np.zeros(0)], [np.zeros((0, n_bins))]
    for some in own.usage.densities(weights, text.n_tokens):
        dense.append((some > DENSE).mean(1))
        bits.append(yes_or_no_bits(np.minimum(some, 1)).sum(1))
        logs = np.log10(np.where(some > 0, some, 1))
        place = np.clip(np.searchsorted(HISTOGRAM_EDGES, logs, side="right") - 1, 0, n_bins - 1)
        row = np.broadcast_to(np.arange(len(some))[:, None], some.shape)
        counts = np.bincount((row * n_bins + place)[some > 0], minlength=len(some) * n_bins)
        histograms.append(counts.reshape(len(some), n_bins).astype(float))
    return Densities(np.concatenate(dense), np.concatenate(bits), np.concatenate(histograms))


def _of_contender(
    weights: Weights,
    text: TextSums,
    own: ContenderSums,
    contenders: Mapping[str, ContenderSums],
    variance: Float[np.ndarray, "resample"],
) -> Samples:
    ce = _ratio(weights @ own.ce, weights @ text.n_targets)
    return {
        **_reconstruction(weights, text, own, variance),
        **(_latents(weights, text, own) if own.usage.n_latents else {}),
        "ce_nats": ce,
        "delta_ce_nats": ce - mean_ce(weights, text),
        **{
            metric: _recovered(weights, text, own, contenders[floor])
            for metric, floor in FLOORS.items()
            if floor in contenders
        },
        "kl_nats": _ratio(weights @ own.kl, weights @ text.n_targets),
    }


def _reconstruction(
    weights: Weights, text: TextSums, own: ContenderSums, variance: Float[np.ndarray, "resample"]
) -> Samples:
    n_tokens = weights @ text.n_tokens
    l0 = _ratio(weights @ own.n_active, n_tokens)
    squares = _ratio(weights @ own.n_active_squared, n_tokens)
    return {
        "fvu": _ratio(weights @ own.squared_error, variance),
        "cosine": _ratio(weights @ own.cosines, n_tokens),
        "relative_norm": _ratio(weights @ own.norms, weights @ text.norms),
        "l0": l0,
        # Equal counts leave a rest of rounding, not zero.
        "l0_std": np.sqrt(np.where(squares - l0**2 < 1e-12 * squares, 0, squares - l0**2)),
    }


def _latents(weights: Weights, text: TextSums, own: ContenderSums) -> Samples:
    densities = densities_of(weights, text, own)
    l0 = _ratio(weights @ own.n_active, weights @ text.n_tokens)
    return {
        "dead_fraction": own.usage.firing.dead_fractions(weights),
        "dense_fraction": densities.dense_fraction,
        "description_bits": densities.position_bits + l0 * entropy_bits(weights @ own.usage.sizes),
    }


def _recovered(
    weights: Weights, text: TextSums, own: ContenderSums, floor: ContenderSums
) -> Float[np.ndarray, "resample"]:
    effect = weights @ (floor.ce - text.ce)
    real = np.abs(effect) > SMALLEST_EFFECT_NATS * (weights @ text.n_targets)
    return _ratio(weights @ (floor.ce - own.ce), np.where(real, effect, 0))


def _ratio(a: Float[np.ndarray, "resample"], b: Float[np.ndarray, "resample"]) -> Float[np.ndarray, "resample"]:
    """a / b, not a number where b is zero."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b != 0)
