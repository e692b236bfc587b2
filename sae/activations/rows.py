"""Rows on their way from the forward pass to a shard."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from sae.activations.place import Place


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one batch, in the order in which they are stored; in each array the first axis is the row."""

    window: Int[np.ndarray, "row"]
    """Number of the window within its split."""
    place: Int[np.ndarray, "row"]
    """Number of the row within its window, from 1."""
    document: Int[np.ndarray, "row"]
    position: Int[np.ndarray, "row"]
    """Position in the document."""
    ids: Int[np.ndarray, "row"]
    """Token ids."""
    left_out: Int[np.ndarray, "row 2"]
    """Rows dropped between the row before and this one: of high norm, not finite."""
    sites: Mapping[str, Tensor]
    """The numbers of each site on the host, not encoded yet."""

    def __len__(self) -> int:
        return len(self.window)

    def __getitem__(self, taken: slice) -> "Rows":
        """Consecutive rows; shares their memory."""
        return Rows(
            self.window[taken],
            self.place[taken],
            self.document[taken],
            self.position[taken],
            self.ids[taken],
            self.left_out[taken],
            {site: x[taken] for site, x in self.sites.items()},
        )

    def end(self) -> Place:
        """The place of the last row."""
        return Place(int(self.window[-1]), int(self.place[-1]))

    def after(self, place: Place) -> Bool[np.ndarray, "row"]:
        """Which rows come after a place."""
        return (self.window > place.window) | ((self.window == place.window) & (self.place > place.row))


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a forward pass gave for one batch, before rows are dropped for what their numbers are."""

    window: Int[np.ndarray, "row"]
    document: Int[np.ndarray, "row"]
    position: Int[np.ndarray, "row"]
    ids: Int[np.ndarray, "row"]
    sites: Mapping[str, Tensor]
    """[row, d] on the host."""
    follows: bool
    """Whether the batch before it in its split was computed as well."""
