"""Health of a harvest, `health.json`: what its activations look like before anything is trained on them.

    γ = ‖mean‖ / ‖standard deviation‖ = ‖x̄‖ / √E‖x − x̄‖²

predicts how many latents of a dictionary die (arXiv 2605.31518).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field

from sae.activations.sums import SiteSums
from sae.core.config import Strict
from sae.core.splits import Split
from sae.core.streams import Moments

FORMAT = 1
FILE = "health.json"


class SiteHealth(Strict):
    """One site, in the model's own units."""

    d: int = Field(gt=0)
    n_rows: int = Field(gt=0)
    gamma: float
    """‖mean‖ / ‖standard deviation‖."""


class Health(Strict):
    """Every site of a harvest."""

    format: int = FORMAT
    split: Split = "train"
    """The rows that were measured."""
    sites: dict[str, SiteHealth]


def write(folder: Path, sums: Mapping[str, SiteSums], show: Callable[[int], str]) -> None:
    """Writes health.json.

    Args:
        folder: of the activations.
        sums: over the train split, by site.
        show: text of a token id.
    """
    sites = {site: _site(each, show) for site, each in sums.items()}
    (folder / FILE).write_text(Health(sites=sites).model_dump_json(indent=1) + "\n", encoding="utf-8")


def _site(sums: SiteSums, show: Callable[[int], str]) -> SiteHealth:
    return SiteHealth(d=sums.d, n_rows=sums.moments.count, gamma=gamma(sums.moments))


def gamma(moments: Moments) -> float:
    """‖mean‖ / ‖standard deviation‖; 0 where nothing varies and the mean is zero."""
    if moments.total_variance == 0:
        return 0.0 if not moments.mean.any() else 1e12
    return float(moments.mean.norm()) / moments.total_variance**0.5
