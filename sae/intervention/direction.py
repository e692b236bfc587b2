"""A direction at a site, and what one unit of strength along it is.

strength s along a direction is the displacement s · length · v/‖v‖, where `length` is what `units` names: one unit of
the model, a standard deviation of the activations' projection, or their mean norm.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError, WorldError
from sae.lm.site import parse_site

Units = Literal["model", "std", "norm"]
_WEIGHTS, _RECORD = "direction.safetensors", "direction.json"


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction in the activations of one site."""

    vector: Float[Tensor, "d"]
    """Any length but zero."""
    site: str
    units: Units
    """What `length` measures: "model", "std" of the projections or mean "norm" of the activations."""
    origin: str
    """In words, where it comes from: "difference of means of sentiment", "latent 17"."""
    length: float = 1.0
    """Model units in one unit of strength."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", float(self.length))  # also from NumPy and tensors, so that it can be saved
        parse_site(self.site)
        if self.units not in get_args(Units):
            raise InputError(f"no units {self.units!r} for a direction; there are {', '.join(get_args(Units))}")
        if self.vector.ndim != 1 or not self.vector.is_floating_point():
            kind = f"{str(self.vector.dtype).removeprefix('torch.')} of shape {list(self.vector.shape)}"
            raise InputError(f"the direction of {self.origin} is {kind}; it must be numbers [d]")
        if not (torch.isfinite(self.vector).all() and self.vector.any()):
            raise InputError(f"the direction of {self.origin} is zero or not finite")
        if not 0 < self.length < float("inf"):
            raise InputError(f"one unit of {self.origin} cannot be {self.length} long; it must be positive and finite")

    @property
    def unit(self) -> Float[Tensor, "d"]:
        """The vector at length 1, in float32 at least."""
        double = self.vector.double()
        return (double / double.norm()).to(torch.promote_types(self.vector.dtype, torch.float32))

    def step(self, strength: float) -> Float[Tensor, "d"]:
        """The displacement, in the model's units, of this strength."""
        return self.unit * (strength * self.length)

    def __str__(self) -> str:
        return f"{self.origin} at {self.site}, one unit being {self.length:.4g} ({self.units})"

    def save(self, folder: Path | str) -> None:
        """Writes `direction.safetensors` and `direction.json` into a folder."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"vector": self.vector.detach().cpu().contiguous().clone()}, folder / _WEIGHTS)
        record = {"site": self.site, "units": self.units, "origin": self.origin, "length": self.length}
        (folder / _RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def measured(
    vector: Float[Tensor, "d"], site: str, units: Units, origin: str, activations: Float[Tensor, "*token width"]
) -> Direction:
    """A direction whose unit of strength is measured on activations of its site.

    Args:
        vector: any length but zero.
        site: where it belongs.
        units: "std", the standard deviation of the activations' projections on it; "norm", the activations' mean norm;
            "model", 1.
        origin: in words, where it comes from.
        activations: a sample of the site, in the model's units, with any leading axes.

    Raises:
        InputError: unknown units, another width, or activations that do not vary along it.
    """
    if activations.shape[-1] != len(vector):
        raise InputError(f"a direction of width {len(vector)} and activations of width {activations.shape[-1]}")
    x, unit = activations.double().reshape(-1, len(vector)), vector.double() / vector.double().norm()
    lengths = {"model": 1.0, "std": float((x @ unit).std(correction=0)), "norm": float(x.norm(dim=1).mean())}
    return Direction(vector, site, units, origin, lengths.get(units, 1.0))


def load_direction(folder: Path | str) -> Direction:
    """Reads what `Direction.save` wrote.

    Raises:
        InputError: the folder holds no direction.
        WorldError: its files are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / _RECORD).is_file() or not (folder / _WEIGHTS).is_file():
        raise InputError(f"no direction in {folder}; it needs {_RECORD} and {_WEIGHTS}")
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        vector = load_file(folder / _WEIGHTS)["vector"]
        return Direction(vector, record["site"], record["units"], record["origin"], float(record["length"]))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, SafetensorError) as error:
        raise WorldError(f"the direction in {folder} is damaged: {error}") from None
