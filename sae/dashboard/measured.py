"""A number with its interval, ready to be shown."""

from dataclasses import dataclass

from sae.core.records import Interval
from sae.dashboard.numbers import MISSING, decimals, fixed, short


@dataclass(frozen=True)
class Measured:
    """A value and, where there is one, its interval, written with the digits that the interval gives."""

    value: str
    interval: str
    """`[low, high]`, or empty."""

    @property
    def known(self) -> bool:
        return self.value != MISSING


def measured(value: float | None, low: float | None = None, high: float | None = None) -> Measured:
    """Writes a value and its interval."""
    if value is None:
        return Measured(MISSING, "")
    if low is None or high is None:
        return Measured(short(value), "")
    if low == high == value:
        return Measured(short(value), f"[{short(low)}, {short(high)}]")
    n = decimals(low, high)
    return Measured(fixed(value, n), f"[{fixed(low, n)}, {fixed(high, n)}]")


def with_interval(value: float, interval: Interval | None) -> Measured:
    """Writes a value with the interval of a record."""
    return measured(value) if interval is None else measured(value, interval.low, interval.high)
