"""How much of a known dictionary was found, and how well its latents tell where features are.

| number | what it is | a perfect one |
|---|---|---|
| mcc | mean cosine of one-to-one pairs of features and latents, of as many as the smaller set has | 1 |
| found | share of features that have a latent with a cosine above 0.9 | 1 |
| uniqueness | features that are the nearest of some latent, per latent | 1 at equal numbers |
| precision, recall, f1 | of a latent as a detector of its nearest feature, mean over latents | 1 |
| f1_own | of the one latent that the matching gives a feature, mean over features | 1 |
| dead_fraction | latents that are active in none of the rows | 0 |
| size_ratio | what a feature's own latent writes along it, of the feature's activation, where both are active | 1 |
| norm_ratio | mean of ‖y‖ / ‖x‖ over rows that are not zero | 1 |
| fvu, l0 | unexplained variance about the mean; active latents a row | 0; the truth's |
| absorbed | share of the rows in which a child and its latent are active and the parent's latent is silent | 0 |
| silent_alone | share of the rows in which a parent is active without a child, and its latent is silent | 0 |

Absorption is what `absorbed` has above `silent_alone`: a latent that misses its feature anyway misses it in both.
A latent that is never active detects nothing: precision, recall and f1 are 0. Features that do not occur in the rows
count in no detector's mean.

Intervals: of mcc, found and uniqueness over resampled features, the pairs being kept; of the others over resampled
units of rows, centred at the value, since ratios and the dead are biased in resamples. They do not say what another
training seed would give.

mcc, uniqueness, precision, recall, f1 and norm_ratio are those of Chanin and Garriga-Alonso 2026, arXiv:2602.14687,
but for the cosine's sign, which they leave out.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae import kernels
from sae.core.config import Strict
from sae.core.errors import InputError
from sae.core.measures import unit
from sae.core.random import generator
from sae.core.records import Interval
from sae.core.uncertainty import bootstrap_mean, percentile_interval, resampling_weights
from sae.kernels import Code
from sae.synthetic.pairing import Pairing, paired
from sae.synthetic.tallies import UNIT, Coder, Tallies, tallied
from sae.synthetic.truth import Stream

FOUND = 0.9
"""Cosine above which a feature counts as found."""
N_ROWS = 32_768
_N_RESAMPLES = 300
Samples = Float[np.ndarray, "_"]


class Estimate(Strict):
    """A number and its interval; null where there is nothing that it could be of."""

    value: float | None
    interval: Interval | None


class TruthScores(Strict):
    """What a dictionary knows of a truth."""

    n_rows: int
    n_features: int
    n_latents: int
    numbers: dict[str, Estimate]

    def __getitem__(self, name: str) -> float:
        """The value of a number; not a number where it is undefined."""
        value = self.numbers[name].value
        return float("nan") if value is None else value


class Reader(NamedTuple):
    """A control: known rows that read by their k largest products."""

    W_dec: Float[Tensor, "latent d"]
    k: int
    centre: Float[Tensor, "d"]

    def encode(self, x: Float[Tensor, "row d"], /) -> Code:
        none = torch.zeros(len(self.W_dec))
        return kernels.encode_topk(x, self.W_dec, none, self.k, self.centre)

    def decode(self, code: Code, /) -> Float[Tensor, "row d"]:
        return kernels.sparse_decode(code, self.W_dec) + self.centre


def truth_scores(stream: Stream, coder: Coder, n_rows: int = N_ROWS, seed: int = 0) -> TruthScores:
    """Scores a dictionary against what its activations are made of.

    Args:
        stream: rows that it was not trained on, with their truth.
        coder: the dictionary.
        n_rows: how many, in whole units of `UNIT`.
        seed: of resampling.

    Raises:
        InputError: a dictionary of another width, or fewer than two units of rows.
    """
    if n_rows < 2 * UNIT:
        raise InputError(f"an interval needs at least {2 * UNIT} rows, got {n_rows}")
    truth = stream.truth
    rows = coder.W_dec.detach().float()
    pairing = paired(truth.directions, rows)
    tallies = tallied(stream, coder, pairing, n_rows)
    numbers = _of_pairs(pairing, len(rows), seed) | _of_tallies(tallies, seed)
    return TruthScores(
        n_rows=int(tallies.rows[:, 0].sum()), n_features=len(truth.directions), n_latents=len(rows), numbers=numbers
    )


def controls(stream: Stream, n_latents: int, k: int, n_rows: int = N_ROWS, seed: int = 0) -> dict[str, TruthScores]:
    """What stands beside a dictionary: random rows, and the true directions themselves, both read by their k largest
    products with x; the second says how far one linear map can tell the features that it knows.
    """
    truth = stream.truth
    random = unit(torch.randn(n_latents, truth.config.d, generator=generator(seed, "random latents")))
    readers = {"random": random, "true_directions": truth.directions}
    return {
        name: truth_scores(stream, Reader(rows, min(k, len(rows)), truth.offset), n_rows, seed)
        for name, rows in readers.items()
    }


def _of_pairs(pairing: Pairing, n_latents: int, seed: int) -> dict[str, Estimate]:
    n_features = len(pairing.best)
    nearest = torch.zeros(n_features, dtype=torch.float64)
    nearest[pairing.features] = 1
    share = min(n_features, n_latents) / n_features
    by_feature = {
        "mcc": pairing.cosines.double() / share,
        "found": (pairing.best > FOUND).double(),
        "uniqueness": nearest * n_features / n_latents,
    }
    return {name: _over_features(values.numpy(), seed) for name, values in by_feature.items()}


def _over_features(values: Float[np.ndarray, "feature"], seed: int) -> Estimate:
    if len(values) < 2:
        return Estimate(value=float(values.mean()), interval=None)
    return Estimate(value=float(values.mean()), interval=bootstrap_mean(values, seed))


def _of_tallies(tallies: Tallies, seed: int) -> dict[str, Estimate]:
    n_units = len(tallies.rows)
    once, often = np.ones((1, n_units)), resampling_weights(n_units, _N_RESAMPLES, seed).astype(float)
    measures: Mapping[str, Callable[[Tallies, Float[np.ndarray, "resample unit"]], Samples]] = {
        "precision": lambda t, w: _detectors(w, t.latents)[0],
        "recall": lambda t, w: _detectors(w, t.latents)[1],
        "f1": lambda t, w: _detectors(w, t.latents)[2],
        "f1_own": lambda t, w: _detectors(w, t.features)[2],
        "dead_fraction": lambda t, w: (w @ t.latents[:, 0] == 0).mean(1),
        "size_ratio": lambda t, w: _ratio(w @ t.sizes[:, 0], w @ t.sizes[:, 1]),
        "norm_ratio": lambda t, w: _ratio(w @ t.rows[:, 5], w @ t.rows[:, 4]),
        "fvu": lambda t, w: _ratio(w @ t.rows[:, 2], w @ _variance(t)),
        "l0": lambda t, w: _ratio(w @ t.rows[:, 1], w @ t.rows[:, 0]),
        "absorbed": lambda t, w: _ratio(w @ t.kin[:, 1], w @ t.kin[:, 0]),
        "silent_alone": lambda t, w: _ratio(w @ t.kin[:, 3], w @ t.kin[:, 2]),
    }
    return {name: _estimate(of(tallies, once), of(tallies, often)) for name, of in measures.items()}


def _estimate(value: Samples, samples: Samples) -> Estimate:
    if not np.isfinite(value[0]):
        return Estimate(value=None, interval=None)
    finite = samples[np.isfinite(samples)]
    return Estimate(value=float(value[0]), interval=percentile_interval(finite - finite.mean() + value[0]))


def _detectors(
    weights: Float[np.ndarray, "resample unit"], counts: Float[np.ndarray, "unit 3 n"]
) -> tuple[Samples, ...]:
    """Mean precision, recall and F1 over detectors whose feature occurs at all."""
    occurs = counts[:, 1].sum(0) > 0
    active, present, both = (weights @ counts[:, i][:, occurs] for i in range(3))
    each = _ratio(both, active), _ratio(both, present), _ratio(2 * both, active + present)
    return tuple(np.nan_to_num(value).mean(1) for value in each)


def _variance(tallies: Tallies) -> Float[np.ndarray, "unit"]:
    """Σ‖x − x̄‖² of each unit about the mean of all."""
    mean, n = tallies.sums.sum(0) / tallies.rows[:, 0].sum(), tallies.rows[:, 0]
    return tallies.rows[:, 3] - 2 * tallies.sums @ mean + n * (mean @ mean)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, not a number where b is zero."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b != 0)
