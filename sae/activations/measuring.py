"""From sums to health: what can be said of a site once all its rows have been seen."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int

from sae.activations.health_records import (
    SINK_MULTIPLE,
    OutlierDimension,
    Percentiles,
    PositionNorms,
    Sinks,
    SiteHealth,
    Spectrum,
    TokenNorms,
    Tokens,
)
from sae.activations.norms import N_OCTAVES, PER_OCTAVE, Norms, edges, ends_of
from sae.activations.sums import SiteSums
from sae.core.streams import Moments

_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
N_TOKENS, N_DIMENSIONS = 20, 8
FEWEST_ROWS = 5
STANDS_OUT = 3.0
"""A token or dimension is listed where it is so many times the median one, or a third of it (tokens)."""
LARGEST_GAMMA = 1e12
"""Where nothing varies."""


def measured(sums: SiteSums, show: Callable[[int], str]) -> SiteHealth:
    """The health of one site.

    Args:
        sums: over at least one row.
        show: text of a token id.
    """
    moments, norms = sums.moments, sums.norms
    overall = norms.histogram.sum(0)
    spread = percentiles(overall)
    first_sink = int(np.searchsorted(edges(), SINK_MULTIPLE * spread.p50))
    octave = first_sink // PER_OCTAVE
    return SiteHealth(
        d=sums.d,
        n_rows=moments.count,
        gamma=_six(_gamma(moments.sum / moments.count, _mean_square(moments))),
        gamma_ordinary=_six(_gamma_of_octaves(norms, octave)),
        ordinary_below=_six(edges()[octave * PER_OCTAVE]),
        norm_of_mean=_six(float(moments.mean.norm())),
        root_mean_square_norm=_six(_mean_square(moments) ** 0.5),
        norms=spread,
        by_position=_by_position(norms, first_sink),
        tokens=_tokens(norms, show),
        sinks=_sinks(norms, first_sink),
        outlier_dimensions=_dimensions(moments),
        spectrum=_spectrum(sums),
    )


def percentiles(histogram: Int[np.ndarray, "bin"]) -> Percentiles:
    """Of the norms counted in a histogram; within a bin they count as evenly spread on the log scale."""
    below = np.concatenate([[0], np.cumsum(histogram)])
    ranks = np.array(_SHARES) * below[-1]
    used = np.flatnonzero(histogram)
    place = used[np.minimum(np.searchsorted(below[used + 1], ranks), len(used) - 1)]
    inside = (ranks - below[place]) / histogram[place]
    return _named(edges()[place] * (edges()[1] / edges()[0]) ** np.clip(inside, 0, 1))


def _named(values: np.ndarray) -> Percentiles:
    return Percentiles.model_validate({f"p{100 * s:g}": _six(v) for s, v in zip(_SHARES, values, strict=True)})


def _mean_square(moments: Moments) -> float:
    return float(moments.sum_squares.sum()) / moments.count


def _gamma(mean: Float[torch.Tensor, "d"], mean_square: float) -> float:
    offset = float(mean.square().sum())
    variance = mean_square - offset
    if variance <= 1e-12 * mean_square:
        return LARGEST_GAMMA if offset else 0.0
    return (offset / variance) ** 0.5


def _gamma_of_octaves(norms: Norms, n_octaves: int) -> float:
    """γ of the rows in the first octaves."""
    n_bins = n_octaves * PER_OCTAVE
    n = int(norms.histogram[:, :n_bins].sum())
    if n == 0 or n_octaves > N_OCTAVES:
        return 0.0
    return _gamma(norms.octaves[:n_octaves].sum(0) / n, float(norms.squares[:n_bins].sum()) / n)


def _by_position(norms: Norms, first_sink: int) -> tuple[PositionNorms, ...]:
    found = []
    for index, histogram in enumerate(norms.histogram):
        if n := int(histogram.sum()):
            first, last = ends_of(index)
            sinks = _six(int(histogram[first_sink:].sum()) / n)
            norms_here = percentiles(histogram)
            found.append(PositionNorms(first=first, last=last, n_rows=n, norms=norms_here, sink_fraction=sinks))
    return tuple(found)


def _tokens(norms: Norms, show: Callable[[int], str]) -> Tokens:
    fewest = FEWEST_ROWS if (norms.token_rows >= FEWEST_ROWS).any() else 1
    ids = np.flatnonzero(norms.token_rows >= fewest)
    means = norms.token_norms[ids] / norms.token_rows[ids]
    median = float(np.median(means)) or 1.0
    away = np.abs(np.log(np.maximum(means, 1e-300) / median))
    far = [int(i) for i in np.lexsort((ids, -away)) if away[i] >= np.log(STANDS_OUT)][:N_TOKENS]
    total = float(norms.squares.sum()) or 1.0
    listed = (
        TokenNorms(
            id=int(ids[i]),
            text=show(int(ids[i])),
            n_rows=int(norms.token_rows[ids[i]]),
            mean_norm=_six(float(means[i])),
            times_median=_six(float(means[i]) / median),
            share_of_mean_square=_six(float(norms.token_squares[ids[i]]) / total),
        )
        for i in far
    )
    spread = _named(np.quantile(means, _SHARES))
    return Tokens(fewest_rows=fewest, n_tokens=len(ids), mean_norms=spread, standing_out=tuple(listed))


def _sinks(norms: Norms, first_sink: int) -> Sinks:
    by_range = norms.histogram[:, first_sink:].sum(1)
    n = int(by_range.sum())
    return Sinks(
        multiple=SINK_MULTIPLE,
        above=_six(edges()[first_sink]),
        n_rows=n,
        share_of_rows=_six(n / norms.histogram.sum()),
        share_of_mean_square=_six(float(norms.squares[first_sink:].sum()) / (float(norms.squares.sum()) or 1.0)),
        share_at_first_position=_six(int(by_range[0]) / max(1, n)),
    )


def _dimensions(moments: Moments) -> tuple[OutlierDimension, ...]:
    squares = moments.sum_squares / moments.count
    size = squares.sqrt()
    median = float(size.median()) or 1.0
    largest = torch.argsort(size, descending=True, stable=True)[:N_DIMENSIONS].tolist()
    return tuple(
        OutlierDimension(
            dimension=i,
            mean=_six(float(moments.mean[i])),
            deviation=_six(float(moments.variance[i].sqrt())),
            times_median=_six(float(size[i]) / median),
            share_of_mean_square=_six(float(squares[i] / squares.sum())),
        )
        for i in largest
        if float(size[i]) >= STANDS_OUT * median
    )


def _spectrum(sums: SiteSums) -> Spectrum:
    covariance = sums.sampled.covariance
    shares = np.zeros(sums.d)
    if covariance.count > 1:
        shares = np.clip(np.linalg.eigvalsh(covariance.matrix.numpy())[::-1], 0, None)
    shares = shares / (float(shares.sum()) or 1.0)
    positive = shares[shares > 0]
    counts = [1 << i for i in range(sums.d.bit_length()) if 1 << i < sums.d]
    return Spectrum(
        every=sums.sampled.every,
        n_rows=covariance.count,
        effective_rank=_six(float(np.exp(-(positive * np.log(positive)).sum())) if len(positive) else 0.0),
        participation_ratio=_six(1 / float((shares**2).sum()) if len(positive) else 0.0),
        top_shares={n: _six(float(shares[:n].sum())) for n in counts},
    )


def _six(value: float) -> float:
    """Six significant digits: as many as anyone reads."""
    return float(f"{float(value):.6g}")
