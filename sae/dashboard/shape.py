"""The shape of a dictionary beside that of the untrained one: what its weights alone say."""

from collections.abc import Callable
from typing import NamedTuple

from sae.dashboard.member import Member
from sae.dashboard.numbers import MISSING, count, short
from sae.dashboard.scorecard import CONTENDERS
from sae.evaluation.geometry import Geometry, Spread


class ShapeRow(NamedTuple):
    """One number of every dictionary, and what it means."""

    name: str
    meaning: str
    cells: tuple[str, ...]


class Shape(NamedTuple):
    columns: tuple[str, ...]
    rows: tuple[ShapeRow, ...]


_ROWS: tuple[tuple[str, str, Callable[[Geometry], str]], ...] = (
    (
        "Duplicates",
        "Share of firing latents whose decoder row has a cosine above 0.9 with another's: capacity spent twice.",
        lambda g: short(g.duplicate_fraction),
    ),
    (
        "Nearest neighbour",
        "Cosine of a decoder row with the nearest other one, of firing latents: median, and from 5 % to 95 %.",
        lambda g: _spread(g.nearest_cosine),
    ),
    (
        "by chance",
        "The same for random rows with the mean and covariance of these.",
        lambda g: _spread(g.chance_nearest_cosine),
    ),
    (
        "Encoder and decoder",
        "Cosine of what a latent reads with what it writes: far from 1, it reads to tell latents apart.",
        lambda g: _spread(g.encoder_decoder_cosine),
    ),
    ("Effective rank", "In how many dimensions the decoder's rows lie.", lambda g: short(g.effective_rank)),
    ("Decoder norm", "Lengths of the decoder's rows.", lambda g: _spread(g.decoder_norm)),
    ("Firing latents", "Those that fire on the test split.", lambda g: count(g.n_firing)),
)


def shape_of(member: Member) -> Shape | None:
    """The shapes of a member's dictionaries; None where nothing was evaluated."""
    if member.scores is None or not member.scores.geometry:
        return None
    found = member.scores.geometry
    columns = tuple(CONTENDERS.get(name, (name, ""))[0] for name in found)
    rows = tuple(ShapeRow(name, meaning, tuple(map(cell, found.values()))) for name, meaning, cell in _ROWS)
    return Shape(columns, rows)


def _spread(spread: Spread | None) -> str:
    return MISSING if spread is None else f"{short(spread.p50)} ({short(spread.p05)} to {short(spread.p95)})"
