"""Training curves: loss, error, sparsity, dead latents and learning rate over tokens, one figure each."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from sae.dashboard.member import Member
from sae.dashboard.plots import COLOURS, Frame, Line, lines


class Panel(NamedTuple):
    title: str
    note: str
    svg: Markup


class Legend(NamedTuple):
    colour: str
    name: str


class Curves(NamedTuple):
    panels: tuple[Panel, ...]
    legend: tuple[Legend, ...]


_PANELS = (
    ("fvu", "Error (FVU)", "Falls and levels off when training has converged.", "FVU (share)", True),
    (
        "loss",
        "Loss",
        "What is minimised: the error and the term that revives dead latents.",
        "loss (scaled units)",
        True,
    ),
    ("l0", "Active latents (L0)", "Constant where the architecture fixes it.", "latents per token", False),
    (
        "dead_window_fraction",
        "Dead latents while training",
        "Share that has not fired for a while, on the training split.",
        "share of latents",
        False,
    ),
    ("learning_rate", "Learning rate", "Rises, stays, falls.", "rate", False),
)


def curves_of(members: Sequence[Member]) -> Curves:
    """The panels for which there are numbers."""
    shown = [m for m in members if m.curves]
    panels = [
        Panel(title, note, _figure(key, title, label, log, shown))
        for key, title, note, label, log in _PANELS
        if any(key in record for m in shown for record in m.curves)
    ]
    legend = [Legend(COLOURS[m.number % len(COLOURS)], m.name) for m in shown] if len(members) > 1 else []
    return Curves(tuple(panels), tuple(legend))


def _figure(key: str, title: str, label: str, log: bool, members: Sequence[Member]) -> Markup:
    series = [_series(m, key) for m in members]
    positive = all(y > 0 for line in series for y in line.y)
    frame = Frame("tokens seen", label, log_y=log and positive, tokens=True, from_zero=key == "l0" or not log)
    return lines(f"curve-{key.replace('_', '-')}", f"{title} over tokens", frame, series)


def _series(member: Member, key: str) -> Line:
    records = [r for r in member.curves if key in r]
    return Line(
        COLOURS[member.number % len(COLOURS)],
        [r.get("n_tokens", r["step"]) for r in records],
        [r[key] for r in records],
    )
