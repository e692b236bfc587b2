"""Many dictionaries on the same documents: which differences are more than noise.

1. Every dictionary's scores were resampled with the same weights, so the n-th resample of one minus the n-th of another
   is the difference on the same documents: what documents have in common cancels.
2. A difference has an interval, and a p by Student's t. All pairs in all compared measures are one family; Holm's
   method adjusts for how many there are, and a difference is real below 0.05.
3. Of a real or unreal difference it is said what this text could detect, and how many documents would show the
   difference that was seen (`n` times (detectable / difference)², as errors fall with √n).
4. The front: a dictionary is beaten in a measure where another with no larger L0 is really better in it. Those that
   nobody beats are on the front, whatever small differences the picture shows.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sae.core.config import Strict
from sae.core.errors import InputError
from sae.core.splits import Split
from sae.core.uncertainty import difference_p, holm
from sae.evaluation.metrics import Samples
from sae.evaluation.scorecard import Scorecard
from sae.evaluation.scores import ENOUGH_DOCUMENTS, Score, score_of

_PROBED = "sparse_5_accuracy"
BETTER = {
    "fvu": "lower",
    "delta_ce_nats": "lower",
    "kl_nats": "lower",
    "dead_fraction": "lower",
    _PROBED: "higher",
    "absorbed_fraction": "lower",
}
"""The measures that are compared, and which way is better. L0 and description length are prices: neither is."""
EQUAL_L0 = 1.05
"""Ratio of L0 up to which two dictionaries count as equally sparse."""
REAL = 0.05
"""Adjusted p below which a difference is real."""


class Evaluated(NamedTuple):
    """One dictionary's evaluation."""

    name: str
    hash: str
    """Of the dictionary."""
    activations: str
    """Hash of the harvest that it was scored on."""
    card: Scorecard
    resamples: Samples


class Entry(Strict):
    """A dictionary of a comparison."""

    name: str
    hash: str
    scores: dict[str, Score]


class Pair(Strict):
    """One dictionary minus another in one measure."""

    metric: str
    first: int
    second: int
    """Numbers of the two, from 0."""
    difference: Score
    p: float
    p_adjusted: float
    """By Holm's method over all pairs and measures."""
    n_documents_needed: int | None
    """Documents of which four texts in five would show a difference as large as this one; null for none at all."""

    @property
    def is_real(self) -> bool:
        return self.p_adjusted < REAL

    @property
    def better(self) -> int | None:
        """Which of the two is better; None within noise."""
        if not self.is_real or self.difference.value is None:
            return None
        first_is_lower = self.difference.value < 0
        return self.first if first_is_lower == (BETTER[self.metric] == "lower") else self.second


class Comparison(Strict):
    """Dictionaries side by side."""

    site: str
    activations: str
    split: Split
    n_documents: int
    n_tokens: int
    dictionaries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    beaten_by: dict[str, tuple[tuple[int, ...], ...]]
    """In each measure, for each dictionary those with no larger L0 that are really better."""


def compare(evaluated: Sequence[Evaluated]) -> Comparison:
    """Compares dictionaries in pairs.

    Raises:
        InputError: fewer than two; other activations, sites, documents or resamples; or too few documents.
    """
    _check(evaluated)
    first = evaluated[0].card
    entries = tuple(Entry(name=e.name, hash=e.hash, scores=e.card.contenders["dictionary"]) for e in evaluated)
    pairs = _adjusted([_pair(evaluated, metric, i, j) for metric, i, j in _asked(evaluated)])
    return Comparison(
        site=first.site,
        activations=evaluated[0].activations,
        split=first.split,
        n_documents=first.n_documents,
        n_tokens=first.n_tokens,
        dictionaries=entries,
        pairs=tuple(pairs),
        beaten_by={metric: _beaten(entries, pairs, metric) for metric in dict.fromkeys(p.metric for p in pairs)},
    )


def _asked(evaluated: Sequence[Evaluated]) -> list[tuple[str, int, int]]:
    """The measures that both of two dictionaries have on the same documents, for every two."""
    both = itertools.product(BETTER, itertools.combinations(range(len(evaluated)), 2))
    scores = [each.card.contenders["dictionary"] for each in evaluated]
    known = [{m for m in BETTER if m in own and own[m].value is not None} for own in scores]
    texts = [each.card.settings["concepts"] for each in evaluated]
    return [
        (metric, i, j)
        for metric, (i, j) in both
        if metric in known[i] & known[j] and (metric != _PROBED or texts[i] == texts[j])
    ]


def _n_documents(card: Scorecard, metric: str) -> int:
    """The documents that a measure is over."""
    return sum(variable.n_documents for variable in card.probing) if metric == _PROBED else card.n_documents


def _pair(evaluated: Sequence[Evaluated], metric: str, i: int, j: int) -> Pair:
    values = [evaluated[k].card.contenders["dictionary"][metric].value for k in (i, j)]
    assert values[0] is not None
    assert values[1] is not None
    samples = evaluated[i].resamples[metric] - evaluated[j].resamples[metric]
    difference = score_of(values[0] - values[1], samples)
    n = _n_documents(evaluated[i].card, metric)
    finite = samples[np.isfinite(samples)]
    p = difference_p(values[0] - values[1], float(finite.std()), n)
    return Pair(
        metric=metric,
        first=i,
        second=j,
        difference=difference,
        p=p,
        p_adjusted=p,
        n_documents_needed=_needed(difference, n),
    )


def _needed(difference: Score, n_documents: int) -> int | None:
    if not difference.value or difference.detectable is None:
        return None
    return max(2, math.ceil(n_documents * (difference.detectable / difference.value) ** 2))


def _adjusted(pairs: Sequence[Pair]) -> list[Pair]:
    adjusted = holm([pair.p for pair in pairs])
    return [pair.model_copy(update={"p_adjusted": p}) for pair, p in zip(pairs, adjusted, strict=True)]


def _beaten(entries: Sequence[Entry], pairs: Sequence[Pair], metric: str) -> tuple[tuple[int, ...], ...]:
    l0 = [entry.scores["l0"].value or 0.0 for entry in entries]
    by: list[list[int]] = [[] for _ in entries]
    for pair in pairs:
        if pair.metric == metric and pair.better is not None:
            better = pair.better
            worse = pair.second if better == pair.first else pair.first
            if l0[better] <= EQUAL_L0 * l0[worse]:
                by[worse].append(better)
    return tuple(tuple(sorted(each)) for each in by)


def _check(evaluated: Sequence[Evaluated]) -> None:
    if len(evaluated) < 2:
        raise InputError(
            f"a comparison needs at least two dictionaries, got {len(evaluated)}: sweep something "
            "(train.sweep: {l0: [16, 32]}), or name other configurations or folders after the first"
        )
    first = evaluated[0]
    for other in evaluated[1:]:
        what = (
            ("the activations", first.activations, other.activations),
            ("the site", first.card.site, other.card.site),
            ("the text", _text_of(first.card), _text_of(other.card)),
        )
        for name, mine, theirs in what:
            if mine != theirs:
                raise InputError(
                    f"{_called(first)} was scored on {name} {mine}, {_called(other)} on {theirs}: "
                    "only dictionaries on the same ones are compared"
                )
    if first.card.n_documents < ENOUGH_DOCUMENTS:
        raise InputError(
            f"a comparison needs intervals over at least {ENOUGH_DOCUMENTS} documents, the {first.card.split} split "
            f"that was scored has {first.card.n_documents}: harvest more text, or raise evaluate.max_tokens"
        )


def _called(one: Evaluated) -> str:
    return f"{one.name} (dictionary {one.hash})" if one.name else f"dictionary {one.hash}"


def _text_of(card: Scorecard) -> str:
    """What the resamples are of, in words."""
    n_resamples, seed = card.settings["n_resamples"], card.settings["seed"]
    return (
        f"of {card.n_documents} documents with {card.n_tokens} tokens of the {card.split} split, resampled "
        f"{n_resamples} times with seed {seed}"
    )
