"""Health of the activations: what was measured while they were harvested, in pictures and in words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sae.activations import health
from sae.activations.advice import Advice, Level, advise
from sae.activations.health_records import OutlierDimension, SiteHealth
from sae.activations.silent import DEFAULT, Shape, silent_share
from sae.dashboard.curves import Panel
from sae.dashboard.member import Member
from sae.dashboard.numbers import count, percent, short
from sae.dashboard.plots import COLOURS, Band, Frame, Line, Mark, bars, lines

MARKS: dict[Level, tuple[str, str, str]] = {
    "fine": ("same", "=", "nothing to do"),
    "note": ("unsettled", "◆", "to be noted"),
    "trouble": ("below", "▼", "trouble"),
}
N_SHOWN_DIMENSIONS = 8


class Said(NamedTuple):
    """One finding: its verdict and its words."""

    tone: str
    mark: str
    words: str
    text: str


class SiteView(NamedTuple):
    """What is shown of one site."""

    site: str
    sentence: str
    findings: tuple[Said, ...]
    panels: tuple[Panel, ...]
    """Empty for a site on which no dictionary was trained."""


class HealthView(NamedTuple):
    """The section."""

    split: str
    sites: tuple[SiteView, ...]
    starts: tuple[str, ...]
    """What each training did about it, by its own words."""


def health_of(members: Sequence[Member]) -> HealthView | None:
    """The section of a run; None where there is no harvest, or an older one."""
    harvest = members[0].artifacts.get("harvest")
    if harvest is None or not (harvest.path / health.FILE).is_file():
        return None
    found = health.read(harvest.path)
    sections = [dict(member.artifacts["train"].manifest.get("inputs", {}).get("section", {})) for member in members]
    shape = _shape(sections[0])
    trained = {section.get("site") for section in sections}
    views = [
        _site(name, each, shape, number, name in trained or len(found.sites) == 1)
        for number, (name, each) in enumerate(found.sites.items())
    ]
    return HealthView(found.split, tuple(views), tuple(dict.fromkeys(filter(None, map(_start, members)))))


def _shape(section: Mapping[str, Any]) -> Shape:
    return Shape(section.get("d_sae", DEFAULT.d_sae), section.get("l0", DEFAULT.l0))


def _start(member: Member) -> str:
    words = str(member.artifacts["train"].manifest.get("metrics", {}).get("scaling_words", ""))
    return f"{member.name}: {words}" if words and member.name else words


def _site(name: str, found: SiteHealth, shape: Shape, number: int, with_pictures: bool) -> SiteView:
    sentence = (
        f"{count(found.n_rows)} rows of {count(found.d)} numbers; median norm {short(found.norms.p50)}, γ "
        f"{short(found.gamma)} ({short(found.gamma_ordinary)} over the ordinary rows), "
        f"{percent(found.sinks.share_of_rows)} of rows are sinks, effective rank "
        f"{short(found.spectrum.effective_rank)} of {count(found.d)}."
    )
    panels = (_gamma, _positions, _sinks, _spectrum, _dimensions)
    figures = tuple(panel(f"health-{number}", found, shape) for panel in panels) if with_pictures else ()
    return SiteView(name, sentence, tuple(map(_said, advise(name, found, shape))), figures)


def _said(advice: Advice) -> Said:
    return Said(*MARKS[advice.level], advice.words)


def _gamma(name: str, found: SiteHealth, shape: Shape) -> Panel:
    """Where this site lies on the curve of predicted silent latents."""
    here = found.gamma_ordinary or found.gamma
    gammas = np.geomspace(min(0.1, max(here, 1e-3)), max(30.0, here), 80).tolist()
    curve = Line(COLOURS[0], gammas, [silent_share(g, shape, found.n_rows) for g in gammas])
    mark = Mark(COLOURS[1], max(here, gammas[0]), silent_share(here, shape, found.n_rows), "here")
    frame = Frame("γ = ‖mean‖ / ‖standard deviation‖", "share born silent", log_x=True, from_zero=True)
    svg = lines(f"{name}-gamma", "Latents born silent over γ", frame, [curve], marks=[mark])
    note = "What a start without a centre would give; centring moves the point to the left."
    return Panel("Predicted silent latents", note, svg)


def _positions(name: str, found: SiteHealth, shape: Shape) -> Panel:
    ranges = found.by_position
    x = [1 + (p.first + p.last) / 2 for p in ranges]
    band = Band(x, [p.norms.p5 for p in ranges], [found.norms.p50 for _ in ranges], [p.norms.p95 for p in ranges])
    line = Line(COLOURS[0], x, [p.norms.p50 for p in ranges])
    positive = all(p.norms.p5 > 0 for p in ranges)
    frame = Frame("position in its piece, plus 1", "norm", log_x=True, log_y=positive)
    svg = lines(f"{name}-positions", "Norms by position", frame, [line], [band])
    note = "Median, with the middle 90 % of rows; dashed the median of all positions."
    return Panel("Norms by position", note, svg)


def _sinks(name: str, found: SiteHealth, shape: Shape) -> Panel:
    ranges = found.by_position
    labels = [str(p.first) if p.first == p.last else f"{p.first}–{p.last}" for p in ranges]
    frame = Frame("position in its piece", "share of rows that are sinks", from_zero=True)
    svg = bars(f"{name}-sinks", "Sinks by position", frame, labels, [p.sink_fraction for p in ranges])
    note = f"Rows longer than {short(found.sinks.multiple)} times the median norm; none is best."
    return Panel("Sinks", note, svg)


def _spectrum(name: str, found: SiteHealth, shape: Shape) -> Panel:
    shares = found.spectrum.top_shares
    line = Line(COLOURS[0], list(shares), list(shares.values()))
    flat = Line(COLOURS[6], list(shares), [n / found.d for n in shares])
    frame = Frame("leading components", "share of the variance", log_x=True, from_zero=True)
    svg = lines(f"{name}-spectrum", "Share of variance in leading components", frame, [line, flat])
    note = "Grey: if all components were equal. A steep start means that few directions decide the FVU."
    return Panel("Spectrum", note, svg)


def _dimensions(name: str, found: SiteHealth, shape: Shape) -> Panel:
    shown = found.outlier_dimensions[:N_SHOWN_DIMENSIONS]
    frame = Frame("dimension", "size, times the median", from_zero=True)
    labels, heights = _of_dimensions(shown)
    svg = bars(f"{name}-dimensions", "Outlier dimensions", frame, labels, heights)
    note = (
        "Root mean squares of those over three times the median dimension."
        if shown
        else "None is over three times the median dimension."
    )
    return Panel("Outlier dimensions", note, svg)


def _of_dimensions(shown: Sequence[OutlierDimension]) -> tuple[list[str], list[float]]:
    if not shown:
        return ["median"], [1.0]
    return ["median", *(str(one.dimension) for one in shown)], [1.0, *(one.times_median for one in shown)]
