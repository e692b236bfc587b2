"""A catalogue on disk, read a feature at a time."""

from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from sae.catalogue import numeric
from sae.catalogue.records import Feature, Histogram, Neighbour
from sae.catalogue.texts import Texts
from sae.core.errors import InputError, WorldError


class Catalogue:
    """The features of one dictionary; use as a context, or close.

    Args:
        folder: a catalogue artifact.

    Raises:
        InputError: the folder holds no catalogue.
        WorldError: its files are damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        file = Path(folder) / numeric.FILE
        if not file.is_file():
            raise InputError(f"{folder} holds no catalogue: it has no {numeric.FILE}")
        try:
            self._numbers = h5py.File(file, "r")
        except OSError:
            raise WorldError(f"{file} is damaged; delete its folder and run the catalogue stage again") from None
        self._texts = Texts(Path(folder))
        self.n_tokens = int(self._array("n_tokens")[()])
        """Tokens that were read."""

    @property
    def n_latents(self) -> int:
        return self._array("n_active").shape[0]

    @property
    def n_active(self) -> np.ndarray:
        """Tokens on which each latent is active."""
        return self._array("n_active")[:]

    @property
    def densities(self) -> Float[np.ndarray, "latent"]:
        """Share of the tokens on which each latent is active."""
        return self.n_active / max(1, self.n_tokens)

    @property
    def max_activations(self) -> Float[np.ndarray, "latent"]:
        """Strongest activation of each latent; 0 where it never fires."""
        return self._array("max")[:]

    @property
    def mean_activations(self) -> Float[np.ndarray, "latent"]:
        """Mean of the non-zero activations of each latent; 0 where it never fires."""
        return self._array("mean")[:]

    def feature(self, latent: int) -> Feature:
        """A latent with its evidence.

        Raises:
            InputError: no such latent.
        """
        if not 0 <= latent < self.n_latents:
            raise InputError(f"no latent {latent}; there are 0 to {self.n_latents - 1}")
        n_active = int(self._array("n_active")[latent])
        promoted, suppressed = self._texts.effects(latent)
        counts = self._array("histogram")[latent]
        near = zip(self._array("neighbour_latents")[latent], self._array("neighbour_cosines")[latent], strict=True)
        return Feature(
            latent=latent,
            n_tokens=self.n_tokens,
            n_active=n_active,
            density=n_active / max(1, self.n_tokens),
            max_activation=float(self._array("max")[latent]),
            mean_activation=float(self._array("mean")[latent]),
            histogram=Histogram(edges=tuple(self._array("histogram_edges")[:].tolist()), counts=tuple(counts.tolist())),
            examples=self._texts.examples(latent),
            promoted=promoted,
            suppressed=suppressed,
            neighbours=tuple(Neighbour(latent=int(other), cosine=float(cosine)) for other, cosine in near),
        )

    def search(self, text: str, limit: int = 50) -> list[int]:
        """Latents whose examples or promoted tokens hold all words of `text`, best first."""
        return self._texts.search(text, limit)

    def _array(self, name: str) -> h5py.Dataset:
        array = self._numbers[name]
        assert isinstance(array, h5py.Dataset)
        return array

    def close(self) -> None:
        """Closes the files."""
        self._numbers.close()
        self._texts.close()

    def __enter__(self) -> "Catalogue":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
