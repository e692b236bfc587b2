"""Health of a harvest, `health.json`: what its activations look like before anything is trained on them.

    γ = ‖mean‖ / ‖standard deviation‖ = ‖x̄‖ / √E‖x − x̄‖²

predicts how many latents of a dictionary die (arXiv 2605.31518).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sae.activations.health_records import SiteHealth
from sae.activations.measuring import measured
from sae.activations.norms import edges
from sae.activations.sums import SiteSums
from sae.core.config import Strict
from sae.core.errors import InputError, NewerFormatError, WorldError
from sae.core.records import first_problem
from sae.core.splits import Split

FORMAT = 1
FILE = "health.json"


class Health(Strict):
    """Every site of a harvest."""

    format: int = FORMAT
    split: Split = "train"
    """The rows that were measured."""
    norm_resolution: float = float(f"{edges()[1] / edges()[0] - 1:.4f}")
    """Relative width of the bins from which percentiles are read."""
    sites: dict[str, SiteHealth]


class _Raw(BaseModel):
    """What every format has in common."""

    model_config = ConfigDict(extra="allow")
    format: int


def write(folder: Path, sums: Mapping[str, SiteSums], show: Callable[[int], str]) -> None:
    """Writes health.json; the same sums give the same bytes.

    Args:
        folder: of the activations.
        sums: over the train split, by site.
        show: text of a token id.
    """
    sites = {site: measured(each, show) for site, each in sums.items()}
    (folder / FILE).write_text(Health(sites=sites).model_dump_json(indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Health:
    """The health of the activations in a folder.

    Raises:
        InputError: they were harvested before health was kept, or the folder holds none.
        WorldError: the file is damaged or of a newer format.
    """
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"{folder} has no {FILE}: it holds no activations, or older ones; harvest again to measure it")
    try:
        raw = _Raw.model_validate_json(file.read_bytes())
        if raw.format > FORMAT:
            raise NewerFormatError(file, raw.format, FORMAT)
        return Health.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise WorldError(f"{file} is damaged: {first_problem(error)}") from None
