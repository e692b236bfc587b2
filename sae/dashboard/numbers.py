"""How numbers are written: as many digits as their interval gives them, a true minus sign, never a false zero."""

import math

MINUS, MISSING = "−", "–"
_GROUP = "\u202f"
"""Between thousands: narrow, and no place to break a line."""

Number = float | int


def short(value: Number | None) -> str:
    """Three significant digits, whole numbers as such; very small and very large ones as powers of ten."""
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    if size < 1e9 and float(value).is_integer():
        return fixed(value, 0)
    if size < 1e-3 or size >= 1e9:
        mantissa, exponent = f"{value:.1e}".split("e")
        return _signed(f"{mantissa}×10{_superscript(int(exponent))}")
    return fixed(value, max(0, 2 - math.floor(math.log10(size))))


def fixed(value: Number, n_decimals: int) -> str:
    """`n_decimals` digits after the point, thousands grouped."""
    text = f"{value:,.{n_decimals}f}".replace(",", _GROUP)
    return text.removeprefix("-") if float(f"{value:.{n_decimals}f}") == 0 else _signed(text)


def count(value: int) -> str:
    """A whole number, thousands grouped."""
    return fixed(value, 0)


def decimals(low: Number, high: Number) -> int:
    """Decimals that show the width of an interval with two digits, but no more than four digits of its ends."""
    width, size = abs(high - low), max(abs(low), abs(high))
    if width == 0:
        return 3
    return max(0, min(1 - math.floor(math.log10(width)), 3 - math.floor(math.log10(size))))


def percent(value: Number) -> str:
    """A share in per cent, three significant digits."""
    return f"{short(100 * value)} %"


def probability(value: float | None) -> str:
    """A p or q value."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else fixed(value, 3 if value < 0.1 else 2)


def megabytes(n_bytes: int) -> str:
    """A size in units of a million bytes."""
    return f"{short(n_bytes / 1e6)} MB"


def _signed(text: str) -> str:
    return text.replace("-", MINUS)


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
