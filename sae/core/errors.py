"""Two kinds of failure that a user meets; anything else is our defect.

`InputError`: what the user gave is wrong (exit status 2). `WorldError`: the disk, an artifact or a run failed
through no fault of the input (exit status 1). Both carry one line: what, where, what is allowed or how to go on.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """What the user gave cannot be used: names the value, the place and what is allowed."""


class WorldError(RuntimeError):
    """The world failed: names what broke, what was kept, how to go on."""


class NewerFormatError(WorldError):
    """What is on the disk was written by a newer version, and this one cannot go on with it."""

    def __init__(self, where: Path, found: int, newest: int) -> None:
        super().__init__(f"{where} has format {found}; this version reads up to {newest}: update sae")


def nearest(word: str, allowed: Iterable[str]) -> str:
    """ ", did you mean 'site'?" for a near miss, else the empty string."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
