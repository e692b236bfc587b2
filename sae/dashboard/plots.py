"""The report's figures: lines with intervals over a band of controls, and histograms."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sae.dashboard.numbers import MINUS, Number, short
from sae.dashboard.svg import MUTED, draw

COLOURS = ("#1f6aa5", "#c4581b", "#2e8560", "#8a4f9e", "#9a7b1c", "#b8375a", "#4a6274", "#5c8f1d")
BAND = "#b9c2cc"


class Line(NamedTuple):
    """One series; `low` and `high` are its intervals, empty where there are none."""

    colour: str
    x: Sequence[Number]
    y: Sequence[Number]
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()


class Band(NamedTuple):
    """The range of the controls, and their middle."""

    x: Sequence[Number]
    low: Sequence[Number]
    middle: Sequence[Number]
    high: Sequence[Number]


class Mark(NamedTuple):
    """One point with its name beside it."""

    colour: str
    x: Number
    y: Number
    name: str


class Place(NamedTuple):
    """One dictionary in a plane of two measures."""

    colour: str
    name: str
    x: Number
    y: Number
    low: Number
    high: Number
    """The interval of y; equal to y where there is none."""
    beaten: bool
    """Whether another one is better in y and no worse in x: drawn hollow."""


class Frame(NamedTuple):
    """What the two axes show, with units."""

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    tokens: bool = False
    """Whether x counts tokens: written 0, 1 M, 2 M."""
    from_zero: bool = False
    """Whether y begins at zero."""
    zero_line: bool = False
    """Whether y = 0 is marked."""


def lines(
    name: str,
    title: str,
    frame: Frame,
    series: Sequence[Line],
    bands: Sequence[Band] = (),
    marks: Sequence[Mark] = (),
) -> Markup:
    """Lines over the bands of their controls, single points above them."""

    def paint(canvas: Axes) -> None:
        _prepare(canvas, frame)
        for band in bands:
            canvas.fill_between(band.x, band.low, band.high, color=BAND, alpha=0.5, linewidth=0)
            canvas.plot(band.x, band.middle, color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
        for line in series:
            if len(line.low):
                canvas.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.16, linewidth=0)
            style = {"marker": "o", "markersize": 3.2} if len(line.x) <= 15 else {}
            canvas.plot(line.x, line.y, color=line.colour, **style)
        for mark in marks:
            canvas.plot([mark.x], [mark.y], color=mark.colour, marker="o", markersize=6, clip_on=False)
            canvas.annotate(mark.name, (mark.x, mark.y), (0, 7), textcoords="offset points", ha="center")
        if frame.zero_line:
            canvas.axhline(0, color=MUTED, linewidth=0.8)
        if frame.from_zero:
            canvas.set_ylim(bottom=0)
        _ticks(canvas, frame)

    return draw(name, title, paint)


def histogram(
    name: str, title: str, frame: Frame, counts: Sequence[tuple[str, Sequence[int]]], edges: Sequence[Number]
) -> Markup:
    """One or several histograms over the same bins; a single one is filled."""

    def paint(canvas: Axes) -> None:
        _prepare(canvas, frame)
        for colour, heights in counts:
            alone = len(counts) == 1
            canvas.stairs(heights, edges, color=colour, fill=alone, alpha=0.75 if alone else 1)
        canvas.set_ylim(bottom=0)
        _ticks(canvas, frame)

    return draw(name, title, paint)


def front(name: str, title: str, frame: Frame, places: Sequence[Place]) -> Markup:
    """Points with intervals; those that none beats are filled, and a broken line joins them."""

    def paint(canvas: Axes) -> None:
        _prepare(canvas, frame)
        best = sorted((place.x, place.y) for place in places if not place.beaten)
        canvas.plot(*zip(*best, strict=True), color=MUTED, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
        for place in places:
            canvas.plot([place.x] * 2, [place.low, place.high], color=place.colour, linewidth=1.2, zorder=2)
            face = "white" if place.beaten else place.colour
            canvas.plot([place.x], [place.y], "o", color=place.colour, markerfacecolor=face, markersize=5.5, zorder=3)
            canvas.annotate(place.name, (place.x, place.y), (5, 4), textcoords="offset points", color=place.colour)
        canvas.margins(0.12)
        _ticks(canvas, frame)

    return draw(name, title, paint)


def bars(name: str, title: str, frame: Frame, labels: Sequence[str], heights: Sequence[Number]) -> Markup:
    """One bar for each label."""

    def paint(canvas: Axes) -> None:
        _prepare(canvas, frame)
        places = range(len(labels))
        canvas.bar(places, heights, color=COLOURS[0], width=0.7)
        canvas.set_ylim(0, max(1e-9, *heights) * 1.1 if max(heights) else 1)
        _ticks(canvas, frame)
        canvas.grid(visible=False, axis="x")
        canvas.set_xticks(
            places, labels, rotation=45 if len(labels) > 6 else 0, ha="right" if len(labels) > 6 else "center"
        )

    return draw(name, title, paint)


def _prepare(canvas: Axes, frame: Frame) -> None:
    canvas.set_xlabel(frame.x)
    canvas.set_ylabel(frame.y)
    if frame.log_x:
        canvas.set_xscale("log")
    if frame.log_y:
        canvas.set_yscale("log")


def _ticks(canvas: Axes, frame: Frame) -> None:
    """Few ticks, in plain digits; to be called when everything is drawn."""
    for axis, log in ((canvas.xaxis, frame.log_x), (canvas.yaxis, frame.log_y)):
        if log:
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,), numticks=7))
            axis.set_major_formatter(FuncFormatter(lambda x, _: _of_log_axis(x)))
            axis.set_minor_locator(NullLocator())
        else:
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.6g}".replace("-", MINUS)))
    if frame.tokens:
        canvas.xaxis.set_major_formatter(EngFormatter(sep="\u202f"))


def _of_log_axis(value: float) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e4 else short(value)


def bar_path(counts: Sequence[int], width: int = 100, height: int = 30) -> str:
    """The outline of a small histogram as the `d` of an SVG path; heights are relative to the fullest bin."""
    top = max(counts, default=0)
    if top == 0:
        return ""
    step = width / len(counts)
    tops = height - height * np.asarray(counts) / top
    points = (f"V{y:.1f}H{(i + 1) * step:.1f}" for i, y in enumerate(tops))
    return f"M0 {height}{''.join(points)}V{height}Z"
