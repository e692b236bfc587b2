"""How often latents fire: a histogram of log10 density, and the dead ones counted beside it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from sae.dashboard.member import Member
from sae.dashboard.numbers import count, percent
from sae.dashboard.plots import COLOURS, Frame, histogram

BINS_PER_DECADE = 4


class Densities(NamedTuple):
    """The figure and, per member, how many latents it cannot show."""

    svg: Markup
    sentences: tuple[str, ...]


def densities_of(
    members: Sequence[Member], densities: Mapping[int, Float[np.ndarray, "_latent"]], n_tokens: Mapping[int, int]
) -> Densities | None:
    """The density plot over all members that have a catalogue, by member number; None where none has."""
    shown = [m for m in members if m.number in densities]
    alive = [densities[m.number][densities[m.number] > 0] for m in shown]
    if not any(len(a) for a in alive):
        return None
    lowest = np.floor(np.log10(min(a.min() for a in alive if len(a))))
    edges = np.linspace(lowest, 0, int(-lowest) * BINS_PER_DECADE + 1) if lowest < 0 else np.array([-1.0, 0.0])
    counts = [
        (COLOURS[m.number % len(COLOURS)], np.histogram(np.log10(a), edges)[0].tolist())
        for m, a in zip(shown, alive, strict=True)
    ]
    frame = Frame("log₁₀ density (share of tokens on which a latent fires)", "latents")
    svg = histogram("densities", "Histogram of latent densities", frame, counts, edges.tolist())
    return Densities(svg, tuple(_sentence(m, densities[m.number], n_tokens[m.number]) for m in shown))


def _sentence(member: Member, densities: Float[np.ndarray, "latent"], n_tokens: int) -> str:
    n, n_dead = len(densities), int((densities == 0).sum())
    name = f"{member.name}: " if member.name else ""
    median = percent(float(np.median(densities[densities > 0]))) if n_dead < n else "–"
    return (
        f"{name}{count(n_dead)} of {count(n)} latents ({percent(n_dead / n)}) fire on none of the {count(n_tokens)} "
        f"test tokens and are not in the plot; of the others, half fire on more than {median} of tokens."
    )
