"""An intervention: which operations act at which sites, as one value that is applied, printed, saved and loaded.

    intervention = Intervention({"blocks.2.resid_post": [add(direction, 2.0, on_generated())]})
    with applying(model, intervention):
        logits = model(input_ids=ids).logits

Operations of one site act in their order; sites act in the order of the forward pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from sae.core.errors import InputError
from sae.intervention import saving
from sae.intervention.latents import ITSELF
from sae.intervention.operations import InOrder, Operation
from sae.lm.hooks import editing
from sae.lm.load import Model
from sae.lm.site import parse_site


@dataclass(frozen=True, eq=False)
class Intervention:
    """Operations by site."""

    edits: Mapping[str, Sequence[Operation]]

    def __post_init__(self) -> None:
        if not self.edits or not all(self.edits.values()):
            raise InputError("an intervention needs at least one operation at every site that it names")
        for site, operations in self.edits.items():
            parse_site(site)
            for one in operations:
                if not isinstance(one, Operation):
                    raise InputError(f"{type(one).__name__} is no operation; {site} takes those of sae.intervention")
        object.__setattr__(self, "edits", {site: tuple(operations) for site, operations in self.edits.items()})

    @property
    def capture(self) -> tuple[str, ...]:
        """The sites that its transcoders read."""
        return tuple(sorted({site for several in self.edits.values() for one in several for site in sources_of(one)}))

    def then(self, other: "Intervention") -> "Intervention":
        """This one and then the other: where both act at a site, the other acts on what this one gave."""
        sites = dict.fromkeys([*self.edits, *other.edits])
        return Intervention({site: (*self.edits.get(site, ()), *other.edits.get(site, ())) for site in sites})

    def __str__(self) -> str:
        return "\n".join(f"at {site}: {'; then '.join(map(str, several))}" for site, several in self.edits.items())

    def save(self, folder: Path | str, dictionaries: Sequence[Path | str] = ()) -> None:
        """Writes `intervention.json` and `intervention.safetensors` (see `saving`).

        Args:
            folder: made if it is not there.
            dictionaries: folders of dictionaries; one that an operation uses is saved by reference to its folder,
                and must then stay where it is, relative to this one.

        Raises:
            InputError: a latent is set by a function; a dictionary too large to be copied, of which no folder is
                named.
        """
        saving.write(Path(folder), self.edits, [Path(one) for one in dictionaries])


def load_intervention(folder: Path | str, device: torch.device | str = "cpu") -> Intervention:
    """Reads what `Intervention.save` wrote: the same bits and the same words.

    Args:
        folder: where it was saved.
        device: for its dictionaries; vectors follow the activations.

    Raises:
        InputError: the folder holds no intervention.
        WorldError: its files are damaged, of a newer version, or a dictionary that it refers to is gone or has
            changed.
    """
    return saving.read(Path(folder), Intervention, torch.device(device))


@contextmanager
def applying(model: Model, intervention: Intervention) -> Iterator[None]:
    """`editing` with an intervention: its operations act in the forward passes inside the `with` block.

    Raises:
        InputError: as `editing`.
    """
    with editing(model, intervention.edits, capture=intervention.capture):
        yield


def sources_of(operation: Operation) -> frozenset[str]:
    """The other sites that an operation reads."""
    if isinstance(operation, InOrder):
        return frozenset().union(*map(sources_of, operation.operations))
    source = getattr(operation, "source", ITSELF)
    return frozenset({source} if isinstance(source, str) and source != ITSELF else ())
