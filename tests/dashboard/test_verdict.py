"""Verdicts never claim more than test, interval and control allow."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae.core.records import Control, Finding, Interval
from sae.dashboard.verdict import difference, verdict

Make = Callable[..., Finding]


@pytest.mark.parametrize(
    ("effect", "control", "q", "tone"),
    [
        (0.9, 0.6, 0.01, "above"),
        (0.9, 0.6, 0.2, "unsettled"),
        (0.6, 0.9, 0.01, "below"),
        (0.61, 0.6, 0.01, "unsettled"),
        (0.61, 0.6, 0.4, "same"),
    ],
)
def test_a_verdict_follows_from_the_difference_and_the_test(
    make_finding: Make, effect: float, control: float, q: float, tone: str
) -> None:
    assert verdict(make_finding("probe", "number", effect, control, q=q)).tone == tone


def test_nothing_is_said_without_an_interval(make_finding: Make) -> None:
    assert verdict(make_finding("probe", "number", 0.9, 0.1, interval=None)).tone == "unknown"


def test_an_effect_against_the_expected_direction_is_no_success(make_finding: Make) -> None:
    found = verdict(make_finding("steering", "number", -2.0, 0.0))
    assert found.tone == "below"
    assert "opposite" in found.words


def test_q_takes_precedence_over_p(make_finding: Make) -> None:
    assert verdict(make_finding("probe", "number", 0.9, 0.6, p=0.01, q=0.2)).tone == "unsettled"


@given(effect=st.floats(-2, 2), control=st.floats(-2, 2), width=st.floats(0.01, 1), q=st.floats(0, 1))
def test_to_beat_a_control_an_effect_lies_above_it_and_passes_its_test(
    effect: float, control: float, width: float, q: float
) -> None:
    beside = Control(what="w", effect=control, interval=Interval(low=control - width, high=control + width))
    subject = {"kind": "site", "site": "embed"}
    given_ = {"kind": "k", "variable": "v", "subject": subject, "unit": "u", "direction": "d", "n_documents": 9}
    interval = Interval(low=effect - width, high=effect + width)
    found = Finding.model_validate({**given_, "effect": effect, "interval": interval, "control": beside, "q": q})
    gap = difference(found)
    assert gap is not None
    assert gap.low <= effect - control <= gap.high
    # The difference of two independent numbers is less certain than either.
    assert gap.high - gap.low == pytest.approx(2 * width * 2**0.5)
    if verdict(found).tone == "above":
        assert q <= 0.05
        assert effect - control > width


def test_below_a_control_is_claimed_of_an_intervention_only_with_its_test(make_finding: Make) -> None:
    assert verdict(make_finding("ablation", "number", -0.5, 0.0, q=0.2)).tone == "unsettled"
    assert verdict(make_finding("ablation", "number", -0.5, 0.0, q=0.01)).tone == "below"
    assert verdict(make_finding("patching", "number", 0.2, 0.5)).words == "does less than its control"


def test_a_flawless_probe_on_few_documents_beats_no_control_that_is_nearly_flawless(make_finding: Make) -> None:
    flawless = Interval(low=1.0, high=1.0)
    assert verdict(make_finding("probe", "number", 1.0, 0.95, interval=flawless, n_documents=20)).tone == "unsettled"
    assert verdict(make_finding("probe", "number", 1.0, 0.6, interval=flawless, n_documents=20)).tone == "above"
