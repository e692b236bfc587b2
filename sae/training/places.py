"""Where the activations of a run lie: what its dictionary reads, and what it writes.

A batch holds the sites that are read side by side, and after them the site that is written where it is another one.
"""

from jaxtyping import Float
from torch import Tensor

from sae.core.config import Strict
from sae.core.errors import InputError
from sae.dictionary import Part


class Itself(Strict):
    """What is read is written."""


class Places(Strict):
    """The sites of a run."""

    source: tuple[Part, ...]
    """What is read: one site, or several for a crosscoder."""
    target: Part | Itself = Itself()
    """What is written: what was read, or another site for a transcoder."""

    @property
    def d_in(self) -> int:
        return sum(part.d for part in self.source)

    @property
    def written(self) -> tuple[Part, ...]:
        """The parts of what is written."""
        return self.source if isinstance(self.target, Itself) else (self.target,)

    @property
    def columns(self) -> tuple[Part, ...]:
        """The parts of a batch, in order."""
        return self.source if isinstance(self.target, Itself) else (*self.source, self.target)

    @property
    def n_columns(self) -> int:
        """Width of a batch."""
        return sum(part.d for part in self.columns)

    def check(self, batch: Float[Tensor, "token column"]) -> None:
        """Raises InputError where a batch has another width."""
        if batch.shape[1] != self.n_columns:
            raise InputError(f"the run's activations have width {self.n_columns}, got width {batch.shape[1]}")


def one_site(d: int, site: str | None = None, model: str | None = None) -> Places:
    """The places of an autoencoder.

    Args:
        d: width of the activations.
        site: where they lie, kept in the dictionary's configuration.
        model: fingerprint of the model, likewise.
    """
    return Places(source=(Part(site=site, d=d, model=model),))
