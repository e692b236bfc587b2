"""The penalty at which a dictionary has the l0 that is wanted: further and further out, then between what was found."""

import math
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

Found = TypeVar("Found")

WITHIN = 0.1
"""Of the wanted l0, as a share."""
N_TRIES = 9
_FURTHER = 3.0
"""Times the penalty of the first try is that of the second; to the third it is the square of it, and so on."""
_LEAST, _MOST = 1e-6, 1e6
"""No penalty beyond these is tried."""


class Try(NamedTuple, Generic[Found]):
    """A dictionary that was trained at one penalty."""

    penalty: float
    l0: float
    found: Found


def sought(train: Callable[[float], tuple[float, Found]], first: float, wanted: float) -> list[Try[Found]]:
    """Trains at one penalty after another, until one leads to the wanted l0.

    Args:
        train: from a penalty to the l0 that it leads to, and what else is to be known of it.
        first: penalty of the first try.
        wanted: l0.

    Returns:
        all tries in their order; where none is within a tenth, there are nine, or what would follow is out of bounds.
    """
    tries: list[Try[Found]] = []
    penalty = first
    while len(tries) < N_TRIES and _LEAST <= penalty <= _MOST:
        tries.append(Try(penalty, *train(penalty)))
        if _distance(tries[-1].l0, wanted) <= math.log(1 + WITHIN):
            break
        penalty = _next(tries, wanted)
    return tries


def nearest(tries: Sequence[Try[Found]], wanted: float) -> Try[Found]:
    """The try whose l0 is nearest, by its ratio."""
    return min(tries, key=lambda t: _distance(t.l0, wanted))


def _distance(l0: float, wanted: float) -> float:
    return abs(math.log(max(l0, 1e-3) / wanted))


def _next(tries: Sequence[Try[Found]], wanted: float) -> float:
    """By the chord in logarithms where l0 was both larger and smaller, kept off its ends; else further out."""
    dense = max((t for t in tries if t.l0 > wanted), key=lambda t: t.penalty, default=None)
    sparse = min((t for t in tries if t.l0 <= wanted), key=lambda t: t.penalty, default=None)
    if dense is None or sparse is None:
        further = _FURTHER ** len(tries)
        return tries[-1].penalty * (further if sparse is None else 1 / further)
    share = math.log(dense.l0 / wanted) / math.log(dense.l0 / max(sparse.l0, 1e-3))
    return dense.penalty * (sparse.penalty / dense.penalty) ** min(max(share, 0.2), 0.8)
