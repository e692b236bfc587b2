"""Mean and variance of a site over the train split, of the rows as stored, and the scale that follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sae.core.artifact import MEND
from sae.core.errors import WorldError
from sae.core.streams import Moments

FILE = "moments.safetensors"


@dataclass(frozen=True, eq=False)
class SiteMoments:
    """First two moments of a site, float64, in the model's own units."""

    mean: Float[Tensor, "d"]
    variance: Float[Tensor, "d"]
    count: int

    @property
    def mean_square(self) -> float:
        """E‖x‖²."""
        return float((self.variance + self.mean.square()).sum())

    @property
    def scale(self) -> float:
        """The factor that gives rows a mean square norm of d: √(d / E‖x‖²)."""
        return (len(self.mean) / self.mean_square) ** 0.5 if self.mean_square > 0 else 1.0

    @property
    def total_variance(self) -> float:
        """E‖x − x̄‖²."""
        return float(self.variance.sum())


def write_moments(folder: Path, moments: Mapping[str, Moments]) -> None:
    """Writes `<site>.mean`, `<site>.variance` and `<site>.count` of every site."""
    tensors = {}
    for site, m in moments.items():
        tensors[f"{site}.mean"] = m.mean.contiguous()
        tensors[f"{site}.variance"] = m.variance.contiguous()
        tensors[f"{site}.count"] = torch.tensor(m.count)
    save_file(tensors, folder / FILE)


def read_moments(folder: Path, site: str) -> SiteMoments:
    """The moments of one site.

    Raises:
        WorldError: the file is missing or damaged.
    """
    try:
        tensors = load_file(folder / FILE)
        return SiteMoments(tensors[f"{site}.mean"], tensors[f"{site}.variance"], int(tensors[f"{site}.count"]))
    except (OSError, SafetensorError, KeyError) as error:
        raise WorldError(f"{folder / FILE} cannot be read ({error}); {MEND}") from None
