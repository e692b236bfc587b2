"""The penalty at which a dictionary has the l0 that is wanted: further and further out, then between what was found."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

Found = TypeVar("Found")

WITHIN = 0.1
"""Of the wanted l0, as a share."""
N_TRIES = 9
"""At most."""
_FURTHER = 3.0
"""Times the penalty of the first try is that of the second; to the third it is the square of it, and so on."""
_LEAST, _MOST = 1e-6, 1e6
"""No penalty beyond these is tried."""
_WORSE = 0.1
"""An l0 that is further off by such a share was led away; less is noise."""


class Try(NamedTuple, Generic[Found]):
    """A dictionary that was trained at one penalty."""

    penalty: float
    l0: float
    found: Found


def sought(train: Callable[[float], tuple[float, Found]], first: float, wanted: float) -> list[Try[Found]]:
    """Trains at one penalty after another, until one leads to the wanted l0.

    A larger penalty is taken to lower l0 until one is seen that does not.

    Args:
        train: from a penalty to the l0 that it leads to, and what else is to be known of it.
        first: penalty of the first try; one beyond what is tried is brought to that end.
        wanted: l0.

    Returns:
        all tries in their order, one at least; where the last is not within a tenth, none was.
    """
    tries: list[Try[Found]] = []
    penalty: float | None = _inside(first)
    while penalty is not None and len(tries) < N_TRIES:
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


def _next(tries: Sequence[Try[Found]], wanted: float) -> float | None:
    """Between two neighbours where l0 crosses what is wanted; else further out at an end that led there; else beside
    the nearest. None where nothing is left.
    """
    by_penalty = sorted(tries, key=lambda t: t.penalty)
    crossing = [pair for pair in pairwise(by_penalty) if (pair[0].l0 > wanted) != (pair[1].l0 > wanted)]
    if crossing:
        return _chord(*min(crossing, key=lambda pair: pair[1].penalty / pair[0].penalty), wanted)
    best, further = nearest(tries, wanted), _FURTHER ** len(tries)
    ends = [(by_penalty[-1], further), (by_penalty[0], 1 / further)]
    for end, times in ends if best.l0 > wanted else reversed(ends):
        penalty = _inside(end.penalty * times)
        if penalty != end.penalty and _distance(end.l0, wanted) <= _distance(best.l0, wanted) + math.log(1 + _WORSE):
            return penalty
    at = by_penalty.index(best)
    gaps = pairwise(by_penalty[max(0, at - 1) : at + 2])
    low, high = max(((a.penalty, b.penalty) for a, b in gaps), key=lambda gap: gap[1] / gap[0], default=(1.0, 1.0))
    return math.sqrt(low * high) if high > low else None


def _chord(low: Try[Found], high: Try[Found], wanted: float) -> float:
    """Where a straight line in logarithms has the wanted l0, kept off the ends."""
    a, b = (math.log(max(t.l0, 1e-3) / wanted) for t in (low, high))
    return low.penalty * (high.penalty / low.penalty) ** min(max(a / (a - b), 0.2), 0.8)


def _inside(penalty: float) -> float:
    return min(max(penalty, _LEAST), _MOST)
