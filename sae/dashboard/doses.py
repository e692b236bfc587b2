"""Dose-response: what a push along a direction does, against how hard it is and against what it costs.

Both figures are drawn from the steering findings themselves. The band holds 95 % of random directions of the same
length; against cost, it stands where the random directions' own mean cost lies.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from sae.core.records import Finding
from sae.dashboard.member import Member
from sae.dashboard.plots import COLOURS, Band, Frame, Line, lines


class Series(NamedTuple):
    """A direction's entry in the legend."""

    colour: str
    name: str


class Doses(NamedTuple):
    """The figures of one variable and the label that it is pushed towards."""

    variable: str
    target: str
    by_dose: Markup
    by_cost: Markup
    legend: tuple[Series, ...]


def doses_of(member: Member) -> tuple[Doses, ...]:
    """Figures for every variable and label that was steered towards."""
    steered = [f for f in member.findings.get("steer", ()) if f.kind == "steering" and "dose" in f.settings]
    tasks = dict.fromkeys((f.variable, str(f.settings["target"])) for f in steered)
    return tuple(
        _doses(f"doses-{member.number}-{i}", variable, target, [f for f in steered if _task(f) == (variable, target)])
        for i, (variable, target) in enumerate(tasks)
    )


def _task(finding: Finding) -> tuple[str, str]:
    return finding.variable, str(finding.settings["target"])


def _doses(name: str, variable: str, target: str, findings: Sequence[Finding]) -> Doses:
    directions = list(dict.fromkeys(str(f.settings["direction"]) for f in findings))
    ordered = sorted(findings, key=lambda f: f.settings["dose"])
    groups = [[f for f in ordered if f.settings["direction"] == direction] for direction in directions]
    nulls = list({f.settings["dose"]: f for f in ordered}.values())
    effect = "change of log-odds, nats"
    costs = [f.settings[key] for f in findings for key in ("kl_nats", "random_kl_nats")]
    by_dose = lines(
        f"{name}-by-dose",
        f"Effect on {variable} against dose",
        Frame("dose (σ of the site)", effect, zero_line=True),
        [_line(i, group, "dose") for i, group in enumerate(groups)],
        [_band(nulls, "dose")],
    )
    by_cost = lines(
        f"{name}-by-cost",
        f"Effect on {variable} against cost",
        Frame("cost: KL on neutral text, nats per token", effect, log_x=min(costs) > 0, zero_line=True),
        [_line(i, sorted(group, key=lambda f: f.settings["kl_nats"]), "kl_nats") for i, group in enumerate(groups)],
        [_band(sorted(nulls, key=lambda f: f.settings["random_kl_nats"]), "random_kl_nats")],
    )
    legend = tuple(Series(COLOURS[i], direction) for i, direction in enumerate(directions))
    return Doses(variable, target, by_dose, by_cost, legend)


def _line(i: int, findings: Sequence[Finding], key: str) -> Line:
    ends = [f.interval for f in findings if f.interval is not None]
    whole = len(ends) == len(findings)
    return Line(
        COLOURS[i],
        [f.settings[key] for f in findings],
        [f.effect for f in findings],
        [e.low for e in ends] if whole else (),
        [e.high for e in ends] if whole else (),
    )


def _band(findings: Sequence[Finding], key: str) -> Band:
    ranged = [(f, f.control.interval) for f in findings if f.control.interval is not None]
    return Band(
        [f.settings[key] for f, _ in ranged],
        [interval.low for _, interval in ranged],
        [f.control.effect for f, _ in ranged],
        [interval.high for _, interval in ranged],
    )
