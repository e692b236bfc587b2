"""What the health of a site means for training: findings in words, each with the numbers and the key that follow.

1. The mean. Where γ of the ordinary rows predicts that latents are born silent (`sae.activations.silent`), activations
   must be centred. Sinks are no part of that γ: they widen the deviation and so hide the mean.
2. The scale, which rates and clipping depend on.
3. Sinks take error and latents from the rows that mean something: filter them where they hold much of the mean square.
4. Positions, tokens and dimensions that stand out, and how few components the variance has.
"""

import itertools
from collections.abc import Iterator
from typing import Literal

from sae.activations.health_records import SINK_MULTIPLE, SiteHealth
from sae.activations.silent import DEFAULT, Shape, silent_share
from sae.core.config import Strict

Level = Literal["fine", "note", "trouble"]
Topic = Literal["mean", "scale", "sinks", "positions", "tokens", "dimensions", "spectrum"]

SILENT_NOTED, SILENT_TROUBLE = 0.01, 0.1
"""Share of latents predicted to be born silent."""
SINKS_TROUBLE = 0.1
"""Share of the mean square in sinks."""
POSITION_STANDS_OUT = 3.0
"""Times the median of all rows, or a third of it."""
FEW_COMPONENTS = 0.5
"""Share of the variance in one component."""
NAMED = 5
"""Tokens and dimensions that a sentence names."""


class Advice(Strict):
    """One finding about a site."""

    site: str
    topic: Topic
    level: Level
    words: str
    """What was found, and what to do about it."""
    numbers: dict[str, float]
    key: str = ""
    """The configuration's key that follows; empty where nothing has to be set."""
    value: str = ""
    """What to set it to, as YAML."""


def advise(site: str, health: SiteHealth, shape: Shape = DEFAULT) -> tuple[Advice, ...]:
    """All findings about one site.

    Args:
        site: its name.
        health: of its train split.
        shape: of the dictionary that is meant to be trained.
    """
    always = (_mean(site, health, shape), _sinks(site, health), _scale(site, health))
    sometimes = (rule(site, health) for rule in (_positions, _tokens, _dimensions, _rank))
    return (*always, *itertools.chain.from_iterable(sometimes))


def _mean(site: str, health: SiteHealth, shape: Shape) -> Advice:
    gamma = health.gamma_ordinary or health.gamma
    silent = silent_share(gamma, shape, health.n_rows)
    level = "trouble" if silent >= SILENT_TROUBLE else "note" if silent >= SILENT_NOTED else "fine"
    hidden = f" (γ of all rows is {health.gamma:.2g}: sinks hide the mean)" if gamma > 2 * health.gamma else ""
    born = (
        f"γ = ‖mean‖ / ‖standard deviation‖ is {gamma:.3g} over the ordinary rows{hidden}: without a centre "
        f"{silent:.0%} of {shape.d_sae:,} latents, {shape.l0} of them active at a token, would be born silent"
    )
    cure = "; train.scale: auto, the default, starts at the centre of the ordinary rows, which takes γ to about 0"
    return Advice(
        site=site,
        topic="mean",
        level=level,
        words=born + (cure if level != "fine" else "; the mean is no danger") + ".",
        numbers={"gamma": health.gamma, "gamma_ordinary": health.gamma_ordinary, "silent_share": round(silent, 4)},
        key="" if level == "fine" else "train.scale",
        value="" if level == "fine" else "auto",
    )


def _scale(site: str, health: SiteHealth) -> Advice:
    share, square = health.sinks.share_of_mean_square, health.root_mean_square_norm**2
    ordinary = square * (1 - share) / max(1e-12, 1 - health.sinks.share_of_rows)
    gamma = health.gamma_ordinary or health.gamma
    deviation = (ordinary / (1 + gamma**2)) ** 0.5
    factor = health.d**0.5 / deviation if deviation > 0 else 1.0
    return Advice(
        site=site,
        topic="scale",
        level="fine" if 0.1 <= factor <= 10 else "note",
        words=(
            f"An ordinary row lies about {deviation:.3g} from the mean; train.scale: auto multiplies by about "
            f"{factor:.3g}, which makes that √d = {health.d**0.5:.3g}, so that learning rates mean the same everywhere."
        ),
        numbers={"ordinary_deviation": _four(deviation), "factor": _four(factor)},
        key="train.scale",
        value="auto",
    )


def _sinks(site: str, health: SiteHealth) -> Advice:
    sinks = health.sinks
    numbers = {
        "share_of_rows": sinks.share_of_rows,
        "share_of_mean_square": sinks.share_of_mean_square,
        "share_at_first_position": sinks.share_at_first_position,
        "above": sinks.above,
    }
    if not sinks.n_rows:
        words = f"No row is longer than {SINK_MULTIPLE:g} times the median norm: there are no sinks."
        return Advice(site=site, topic="sinks", level="fine", words=words, numbers=numbers)
    first = sinks.share_at_first_position >= 0.9
    where = "nearly all at the first position of their piece" if first else "not only at the first position"
    key, value = ("harvest.exclude.first", "1") if first else ("harvest.exclude.high_norm", f"{SINK_MULTIPLE:g}")
    return Advice(
        site=site,
        topic="sinks",
        level="trouble" if sinks.share_of_mean_square >= SINKS_TROUBLE else "note",
        words=(
            f"{sinks.n_rows:,} rows ({sinks.share_of_rows:.2%} of all) are sinks, longer than {SINK_MULTIPLE:g} times "
            f"the median norm, {where}; they hold {sinks.share_of_mean_square:.0%} of the mean square. Training starts "
            f"from the other rows (train.scale: auto) but still spends error and latents on these; {key}: {value} "
            f"leaves them out of the harvest, unless the dictionary has to reconstruct them too."
        ),
        numbers=numbers,
        key=key,
        value=value,
    )


def _positions(site: str, health: SiteHealth) -> Iterator[Advice]:
    """Ranges of positions whose rows are of another length; where these are sinks, that finding has named them."""
    median = health.norms.p50
    ranges = [p for p in health.by_position if median > 0 and p.sink_fraction < 0.5]
    apart = [
        p for p in ranges if not 1 / POSITION_STANDS_OUT < p.norms.p50 / median < POSITION_STANDS_OUT and p.last < 1024
    ]
    if not apart:
        return
    names = ", ".join(str(p.first) if p.first == p.last else f"{p.first}–{p.last}" for p in apart[:NAMED])
    leading = max((p.last + 1 for p, whole in zip(apart, health.by_position, strict=False) if p == whole), default=0)
    key, value = ("harvest.exclude.first", str(leading)) if 0 < leading <= 4 else ("", "")
    yield Advice(
        site=site,
        topic="positions",
        level="note",
        words=f"Rows at positions {names} have a median norm {apart[0].norms.p50 / median:.2g} times that of all rows"
        + (f"; {key}: {value} leaves them out." if key else "; look at them before you interpret latents there."),
        numbers={f"times_median_{p.first}": _four(p.norms.p50 / median) for p in apart[:NAMED]},
        key=key,
        value=value,
    )


def _tokens(site: str, health: SiteHealth) -> Iterator[Advice]:
    all_named = health.tokens.standing_out
    if not all_named:
        return
    long = [token for token in all_named if token.times_median >= SINK_MULTIPLE]
    named = (long or all_named)[:NAMED]
    share = sum(token.share_of_mean_square for token in long or all_named)
    words = ", ".join(f"{token.text!r} ({token.times_median:.3g})" for token in named)
    cure = f" harvest.exclude.high_norm: {SINK_MULTIPLE:g} leaves such rows out." if long else ""
    yield Advice(
        site=site,
        topic="tokens",
        level="trouble" if long and share >= SINKS_TROUBLE else "note",
        words=f"Tokens whose rows are unlike the median token's in length (times its mean norm): {words}; "
        f"the {len(long or all_named)} {'longest' if long else 'such'} hold {share:.1%} of the mean square.{cure}",
        numbers={f"times_median_{token.id}": token.times_median for token in named},
        key="harvest.exclude.high_norm" if long else "",
        value=f"{SINK_MULTIPLE:g}" if long else "",
    )


def _dimensions(site: str, health: SiteHealth) -> Iterator[Advice]:
    named = health.outlier_dimensions[:NAMED]
    if not named:
        return
    share = sum(one.share_of_mean_square for one in health.outlier_dimensions)
    still = all(abs(one.mean) > 3 * one.deviation for one in named)
    cause = "mostly their mean, which centring takes away" if still else "and they vary, so they draw latents to them"
    yield Advice(
        site=site,
        topic="dimensions",
        level="note",
        words=f"Dimensions {', '.join(f'{one.dimension} ({one.times_median:.3g})' for one in named)} stand out (times "
        f"the median one) and hold {share:.0%} of the mean square, {cause}. int8 rounds all others more coarsely for "
        f"them: store float16 or bfloat16 where that matters.",
        numbers={f"times_median_{one.dimension}": one.times_median for one in named},
        key="harvest.dtype",
        value="float16",
    )


def _rank(site: str, health: SiteHealth) -> Iterator[Advice]:
    first = health.spectrum.top_shares.get(1, 0.0)
    if first < FEW_COMPONENTS:
        return
    why = " (sinks count here)" if health.sinks.share_of_mean_square >= SINKS_TROUBLE else ""
    yield Advice(
        site=site,
        topic="spectrum",
        level="note",
        words=f"One component holds {first:.0%} of the variance{why}, and the effective rank is "
        f"{health.spectrum.effective_rank:.3g} of {health.d}: a low FVU says little here, so compare it with PCA's.",
        numbers={"first_share": first, "effective_rank": health.spectrum.effective_rank},
    )


def _four(value: float) -> float:
    return float(f"{value:.4g}")
