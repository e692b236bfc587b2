"""Feature cards: which latents are shown, and what of them.

1. First the best latents of the variables, a round of one per variable after another, up to three fifths of the cards.
2. Then, to see what an ordinary latent looks like: the remaining latents that fire on at least `MIN_ACTIVE` tokens are
   sorted by density and cut into as many equal groups as there are places left; of each group the middle one is
   shown. Density alone decides, so nobody picked the pretty ones.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from sae.catalogue.catalogue import Catalogue
from sae.catalogue.records import Example, Feature, TokenEffect
from sae.core.records import Finding
from sae.dashboard.claims import Claim, claim_of
from sae.dashboard.member import Member
from sae.dashboard.numbers import count, fixed, percent, short
from sae.dashboard.plots import bar_path

BEST_SHARE = 0.6
MIN_ACTIVE = 10
N_EXAMPLES = 5
N_SHADES = 9
N_TOGETHER = 5


class Piece(NamedTuple):
    """A token and how strongly the latent fires on it: 0 not at all, `N_SHADES` as much as it ever does."""

    text: str
    shade: int
    is_peak: bool
    activation: str


class Passage(NamedTuple):
    """One example."""

    activation: str
    pieces: tuple[Piece, ...]


class Promotion(NamedTuple):
    token: str
    logits: str
    width: int
    """Relative to the strongest of the card, in per cent."""


class Near(NamedTuple):
    latent: int
    cosine: str
    has_card: bool


class Card(NamedTuple):
    """A feature, ready to be shown."""

    latent: int
    reason: str
    """Why it is shown."""
    density: str
    n_active: str
    max_activation: str
    mean_activation: str
    bars: str
    low: str
    """Left and right end of the histogram."""
    high: str
    promoted: tuple[Promotion, ...]
    suppressed: tuple[Promotion, ...]
    passages: tuple[Passage, ...]
    neighbours: tuple[Near, ...]
    claims: tuple[Claim, ...]


def cards_of(member: Member, catalogue: Catalogue, n: int, best: Mapping[int, str]) -> tuple[Card, ...]:
    """The cards of a member.

    Args:
        member: its findings stand on the cards.
        catalogue: of its dictionary.
        n: number of cards, at most.
        best: latents to show first, and why.
    """
    chosen = choose(catalogue.n_active, list(best)[: math.ceil(BEST_SHARE * n)], n)
    reasons = {latent: best.get(latent, "chosen by density alone") for latent in chosen}
    return tuple(_card(catalogue.feature(latent), reason, set(chosen), member) for latent, reason in reasons.items())


def choose(n_active: Int[np.ndarray, "latent"], first: Sequence[int], n: int) -> list[int]:
    """Latents to show: `first`, then the middle one of each density group."""
    chosen = [latent for latent in first if 0 <= latent < len(n_active)][:n]
    others = np.setdiff1d(np.flatnonzero(n_active >= MIN_ACTIVE), chosen)
    ordered = others[np.lexsort((others, -n_active[others]))]
    places = min(n - len(chosen), len(ordered))
    groups = np.array_split(ordered, places) if places else []
    return chosen + [int(group[len(group) // 2]) for group in groups]


def _card(feature: Feature, reason: str, shown: Collection[int], member: Member) -> Card:
    first, last = _used(feature.histogram.counts)
    edges = feature.histogram.edges
    effects = [abs(e.logits_per_unit) for e in (*feature.promoted, *feature.suppressed)]
    top = max(effects, default=1.0) or 1.0
    return Card(
        latent=feature.latent,
        reason=reason,
        density=percent(feature.density),
        n_active=f"{count(feature.n_active)} of {count(feature.n_tokens)} tokens",
        max_activation=short(feature.max_activation),
        mean_activation=short(feature.mean_activation),
        bars=bar_path(feature.histogram.counts[first:last]),
        low=short(edges[first]),
        high=short(edges[last]),
        promoted=tuple(_promotion(e, top) for e in feature.promoted[:8]),
        suppressed=tuple(_promotion(e, top) for e in feature.suppressed[:8]),
        passages=tuple(_passage(e, feature.max_activation) for e in feature.examples[:N_EXAMPLES]),
        neighbours=tuple(Near(n.latent, fixed(n.cosine, 2), n.latent in shown) for n in feature.neighbours[:6]),
        claims=tuple(_claims(member, feature.latent)),
    )


def _used(counts: Sequence[int]) -> tuple[int, int]:
    """First and last bin in use, so that an empty tail takes no room."""
    used = np.flatnonzero(np.asarray(counts))
    return (int(used[0]), int(used[-1]) + 1) if len(used) else (0, len(counts))


def _claims(member: Member, latent: int) -> list[Claim]:
    """What is found of a latent, alone or among few; of a dose-response only the point at equal cost."""
    pairs = [(stage, f) for stage, found in member.findings.items() for f in found if latent in f.subject.latents]
    return [claim_of(stage, f) for stage, f in pairs if _belongs(f)]


def _belongs(finding: Finding) -> bool:
    alone = len(finding.subject.latents) <= N_TOGETHER or finding.settings.get("method") == "best_latent"
    return alone and finding.settings.get("level") != "dose"


def _promotion(effect: TokenEffect, top: float) -> Promotion:
    width = max(1, round(100 * abs(effect.logits_per_unit) / top))
    return Promotion(visible(effect.token), short(effect.logits_per_unit), width)


def _passage(example: Example, most: float) -> Passage:
    pieces = (
        Piece(visible(text), _shade(value, most), i == example.peak, short(value) if value > 0 else "")
        for i, (text, value) in enumerate(zip(example.tokens, example.values, strict=True))
    )
    return Passage(short(example.activation), tuple(pieces))


def _shade(value: float, most: float) -> int:
    return 0 if value <= 0 or most <= 0 else min(N_SHADES, max(1, round(N_SHADES * value / most)))


def visible(token: str) -> str:
    """A token with its line breaks and tabs to be seen."""
    return token.replace("\n", "↵").replace("\r", "↵").replace("\t", "⇥")
