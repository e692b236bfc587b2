"""What health.json says of a site; all numbers in the model's own units.

A *sink* is a row whose norm is over ten times the median norm: what dictionary_learning and SAEDashboard leave out by
the same measure. `gamma_ordinary` leaves out those rows, and all above the last power of two below that.
"""

from pydantic import Field

from sae.core.config import Strict

SINK_MULTIPLE = 10.0
"""Of the median norm."""


class Percentiles(Strict):
    """Of norms, read off bins 2.2 % wide."""

    p1: float
    p5: float
    p25: float
    p50: float
    p75: float
    p95: float
    p99: float


class PositionNorms(Strict):
    """The rows at a range of positions, counted from the first token that the model read in the piece."""

    first: int
    last: int
    n_rows: int
    norms: Percentiles
    sink_fraction: float
    """Share of these rows that are sinks."""


class TokenNorms(Strict):
    """One token whose rows are unlike those of other tokens."""

    id: int
    text: str
    n_rows: int
    mean_norm: float
    times_median: float
    """Its mean norm over the median token's."""
    share_of_mean_square: float
    """Of all rows' Σ‖x‖²."""


class Tokens(Strict):
    """Mean norms of the tokens that have at least `fewest_rows` rows."""

    fewest_rows: int
    n_tokens: int
    mean_norms: Percentiles
    """Over tokens."""
    standing_out: tuple[TokenNorms, ...]
    """Those furthest from the median token, at most twenty."""


class Sinks(Strict):
    """Rows with a norm over `multiple` times the median."""

    multiple: float
    above: float
    """The norm beyond which a row is a sink."""
    n_rows: int
    share_of_rows: float
    share_of_mean_square: float
    share_at_first_position: float
    """Share of the sinks that lie at position 0 of their piece."""


class OutlierDimension(Strict):
    """A dimension whose root mean square stands out."""

    dimension: int
    mean: float
    deviation: float
    times_median: float
    """Its root mean square over the median dimension's."""
    share_of_mean_square: float


class Spectrum(Strict):
    """Of the covariance over a sample of the rows."""

    every: int
    """One row of so many was taken."""
    n_rows: int
    effective_rank: float
    """exp(−Σ p ln p) over the shares p of variance of the components (Roy and Vetterli 2007)."""
    participation_ratio: float
    """1 / Σ p²."""
    top_shares: dict[int, float]
    """Number of leading components to their share of the variance."""


class SiteHealth(Strict):
    """One site, in the model's own units."""

    d: int = Field(gt=0)
    n_rows: int = Field(gt=0)
    gamma: float
    """‖mean‖ / ‖standard deviation‖."""
    gamma_ordinary: float
    """The same over the rows whose norm is below `ordinary_below`."""
    ordinary_below: float
    """The largest power of two that is at most ten times the median norm."""
    norm_of_mean: float
    root_mean_square_norm: float
    norms: Percentiles
    by_position: tuple[PositionNorms, ...]
    tokens: Tokens
    sinks: Sinks
    outlier_dimensions: tuple[OutlierDimension, ...]
    """At most eight, the largest first."""
    spectrum: Spectrum
