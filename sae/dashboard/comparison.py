"""Dictionaries side by side, ready to be shown: a front for each measure, and which differences are real."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from sae.core.errors import InputError
from sae.dashboard.measured import Measured, measured
from sae.dashboard.member import Member
from sae.dashboard.numbers import count, probability, short
from sae.dashboard.plots import COLOURS, Frame, Place, front
from sae.dashboard.scorecard import METRICS
from sae.evaluation.comparison import BETTER, Comparison, Evaluated, Pair, compare
from sae.evaluation.scorecard import read_resamples

FRONTS = ("fvu", "delta_ce_nats")
"""The measures that are drawn against L0."""
COLUMNS = ("l0", "fvu", "delta_ce_nats", "kl_nats", "description_bits", "dead_fraction")
MOST_PAIRS = 15
"""Pairs of one measure that are listed; of more, those with the best dictionary in it."""
_NAMES = {metric.key: (metric.name, metric.unit) for metric in METRICS}


class DictionaryRow(NamedTuple):
    """One dictionary."""

    number: int
    colour: str
    name: str
    hash: str
    cells: tuple[Measured, ...]
    standing: str
    """Whether it is on the front of each drawn measure."""


class PairRow(NamedTuple):
    """One dictionary minus another."""

    pair: str
    difference: Measured
    detectable: str
    p: str
    tone: str
    words: str


class MeasureTable(NamedTuple):
    """The pairs in one measure."""

    key: str
    name: str
    unit: str
    n_real: int
    n_pairs: int
    rows: tuple[PairRow, ...]
    note: str
    """What is left out."""


class FrontFigure(NamedTuple):
    name: str
    title: str
    note: str
    svg: Markup


class ComparisonView(NamedTuple):
    """What the page and the terminal show."""

    caption: str
    columns: tuple[tuple[str, str], ...]
    """Name and unit."""
    rows: tuple[DictionaryRow, ...]
    measures: tuple[MeasureTable, ...]
    figures: tuple[FrontFigure, ...]


def comparison_of(members: Sequence[Member]) -> ComparisonView | str | None:
    """The comparison of a sweep's members; why there is none, in words; None where fewer than two were evaluated."""
    scored = [evaluated_of(member) for member in members if member.scores is not None]
    if len(scored) < 2:
        return None
    try:
        return view_of(compare(scored))
    except InputError as error:
        return str(error)


def evaluated_of(member: Member) -> Evaluated:
    """A member's evaluation."""
    artifact = member.artifacts["evaluate"]
    assert member.scores is not None
    harvest = artifact.manifest["parents"]["harvest"]
    return Evaluated(member.name, member.hash, harvest, member.scores, read_resamples(artifact.path))


def view_of(comparison: Comparison) -> ComparisonView:
    """A comparison, ready to be shown."""
    return ComparisonView(
        caption=_caption(comparison),
        columns=tuple(_NAMES[key] for key in COLUMNS),
        rows=tuple(_row(comparison, i) for i in range(len(comparison.dictionaries))),
        measures=tuple(_measure(comparison, metric) for metric in comparison.beaten_by),
        figures=tuple(_figure(comparison, metric) for metric in FRONTS if metric in comparison.beaten_by),
    )


def _caption(comparison: Comparison) -> str:
    return (
        f"{count(comparison.n_tokens)} tokens of {count(comparison.n_documents)} documents of the {comparison.split} "
        f"split at {comparison.site}, the same for all. In brackets: 95 % intervals by bootstrap over documents, each "
        f"by itself. Detectable: the smallest true difference that four texts in five of this size would show. p is "
        f"adjusted for all {len(comparison.pairs)} comparisons (Holm); real means below 0.05."
    )


def _row(comparison: Comparison, number: int) -> DictionaryRow:
    entry = comparison.dictionaries[number]
    scores = (entry.scores.get(key) for key in COLUMNS)
    cells = tuple(measured(None) if s is None else measured(s.value, s.low, s.high) for s in scores)
    return DictionaryRow(
        number + 1, COLOURS[number % len(COLOURS)], entry.name, entry.hash, cells, _standing(comparison, number)
    )


def _standing(comparison: Comparison, number: int) -> str:
    words = []
    for metric in FRONTS:
        if metric in comparison.beaten_by:
            by = comparison.beaten_by[metric][number]
            words.append(f"{_NAMES[metric][0]}: {f'beaten by {_several(by)}' if by else 'yes'}")
    return "; ".join(words)


def _several(numbers: Sequence[int]) -> str:
    """The first three of them."""
    shown = ", ".join(str(i + 1) for i in numbers[:3])
    return f"{shown} and {len(numbers) - 3} more" if len(numbers) > 3 else shown


def _measure(comparison: Comparison, metric: str) -> MeasureTable:
    pairs = [pair for pair in comparison.pairs if pair.metric == metric]
    shown, note = pairs, ""
    if len(pairs) > MOST_PAIRS:
        best = _best(comparison, metric)
        shown = [pair for pair in pairs if best in (pair.first, pair.second)]
        note = f"Only pairs with the best in it, {best + 1}, are listed; all are in comparison.json."
    name, unit = _NAMES[metric]
    n_real = sum(pair.is_real for pair in pairs)
    return MeasureTable(metric, name, unit, n_real, len(pairs), tuple(map(_pair, shown)), note)


def _best(comparison: Comparison, metric: str) -> int:
    sign = 1 if BETTER[metric] == "lower" else -1
    known = {i: e.scores[metric].value for i, e in enumerate(comparison.dictionaries) if metric in e.scores}
    values = {i: sign * value for i, value in known.items() if value is not None}
    return min(values, key=lambda i: values[i])


def _pair(pair: Pair) -> PairRow:
    value = pair.difference
    tone, words = "same", "= within noise"
    if pair.better is not None:
        tone, words = "above", f"▲ {pair.better + 1} is better"
    elif value.value == 0:
        words = "= no difference"
    elif pair.n_documents_needed is not None:
        words += f"; one so large would show in {count(pair.n_documents_needed)} documents"
    return PairRow(
        f"{pair.first + 1} − {pair.second + 1}",
        measured(value.value, value.low, value.high),
        short(value.detectable),
        probability(pair.p_adjusted),
        tone,
        words,
    )


def _figure(comparison: Comparison, metric: str) -> FrontFigure:
    name, unit = _NAMES[metric]
    places = []
    for number, entry in enumerate(comparison.dictionaries):
        l0, score = entry.scores["l0"].value, entry.scores[metric]
        if l0 is None or score.value is None:
            continue
        low, high = (score.value if end is None else end for end in (score.low, score.high))
        beaten = bool(comparison.beaten_by[metric][number])
        colour = COLOURS[number % len(COLOURS)]
        places.append(Place(colour, str(number + 1), l0, score.value, low, high, beaten))
    frame = Frame("L0, numbers per token", f"{name}, {unit}", _is_wide([p.x for p in places]), _is_wide_up(places))
    title = f"{name} against L0"
    note = "Filled: no other with an L0 as small (within 5 %) is really better. Bars: 95 % intervals, each by itself."
    key = f"front-{metric.replace('_', '-')}"
    return FrontFigure(key, title, note, front(key, title, frame, places))


def _is_wide(values: Sequence[float]) -> bool:
    """Whether an axis is better logarithmic."""
    return min(values) > 0 and max(values) > 5 * min(values)


def _is_wide_up(places: Sequence[Place]) -> bool:
    return _is_wide([*(p.low for p in places), *(p.high for p in places)])
