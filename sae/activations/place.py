"""Where a row stands in its split: the window that the model read, and the number of the row within that window.

Windows of a split are numbered in the order in which they are packed, rows of a window from 1 as they are kept. Both
follow from text and model alone, whatever the number of windows in a batch; so a place says where a shard ends, and a
harvest that goes on knows which windows it still has to compute.
"""

from typing import NamedTuple


class Place(NamedTuple):
    """A row of a split."""

    window: int
    row: int
    """From 1; 0 is before the first row of the window."""


START = Place(0, 0)
"""Before every row."""


class Gap(NamedTuple):
    """Shards that are not there: the rows after `start`, up to and including `stop` or to the end of the split."""

    first: int
    """Number of the first missing shard."""
    start: Place
    stop: Place | None

    def meets(self, first_window: int, n_windows: int) -> bool:
        """Whether windows [first_window, first_window + n_windows) may hold rows of the gap."""
        after = first_window + n_windows > self.start.window
        return after and (self.stop is None or first_window <= self.stop.window)
