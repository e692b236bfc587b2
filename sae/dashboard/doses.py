"""Dose-response: what a push along a direction does, against how hard it is and against what it costs."""

from typing import NamedTuple

from sae.dashboard.member import Member


class Doses(NamedTuple):
    """Figures of one variable."""

    variable: str


def doses_of(member: Member) -> tuple[Doses, ...]:
    return ()
