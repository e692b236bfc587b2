"""Numbers are written with the digits that their interval gives them."""

import pytest

from sae.dashboard.measured import measured
from sae.dashboard.numbers import probability, short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0"),
        (16, "16"),
        (0.12345, "0.123"),
        (-1.5, "−1.50"),
        (1234567, "1\u202f234\u202f567"),
        (1.2e-5, "1.2×10⁻⁵"),
        (123.456, "123"),
    ],
)
def test_short(value: float | int | None, text: str) -> None:
    assert short(value) == text


def test_an_interval_decides_how_many_digits_are_shown() -> None:
    shown = measured(0.12345, 0.0812, 0.1671)
    assert (shown.value, shown.interval) == ("0.123", "[0.081, 0.167]")
    assert measured(12.3456, 9.0, 15.0).value == "12.3"
    assert measured(-0.0001, -0.2, 0.2).value == "0.00"


def test_a_missing_number_has_no_interval() -> None:
    assert not measured(None, 0.0, 1.0).known


def test_a_small_probability_is_never_zero() -> None:
    assert probability(0.0) == "< 0.001"
    assert probability(0.0123) == "0.012"
