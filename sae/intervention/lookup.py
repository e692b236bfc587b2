"""Values given for each position of each text, looked up where a pass needs them.

    found[b, j] = values[b, p],   p the absolute position of token j in its text

so they mean the same under either padding, alone or in a batch, with and without a cache. Padding, and tokens that the
model generates beyond the last position given, are `inside` nothing: there an edit leaves the activation alone.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from sae.core.errors import InputError
from sae.lm.hooks import Context


class Found(NamedTuple):
    """Values in the layout of the pass under way."""

    values: Shaped[Tensor, "batch position *rest"]
    inside: Bool[Tensor, "batch position"]
    """False where no value is given."""


def look_up(values: Shaped[Tensor, "rows n *rest"], context: Context, what: str) -> Found:
    """The value of every token of the pass.

    Args:
        values: one row for each text, or one for all.
        context: the pass.
        what: names the values in errors.

    Raises:
        InputError: another number of texts; a prompt that is longer than the values; several texts in one row.
    """
    n_rows, n = values.shape[:2]
    check_rows(n_rows, context, what)
    p, mask = context.positions, context.mask
    _check_alone(context, what)
    short = (p >= n) & mask & ~context.generated
    if short.any():
        row = int(short.any(1).nonzero()[0])
        raise InputError(f"{what} for {n} positions; text {row} of the batch has {int(p[row].max()) + 1}")
    inside = mask & (p >= 0) & (p < n)
    row = torch.arange(len(p), device=p.device)[:, None] if n_rows > 1 else torch.zeros_like(p)
    return Found(values.to(p.device)[row, p.clamp(0, n - 1)], inside)


def check_rows(n_rows: int, context: Context, what: str) -> None:
    """Refuses values of another number of texts than the pass has, one row standing for all.

    Raises:
        InputError: names both numbers.
    """
    n_texts = len(context.positions)
    if n_rows not in (1, n_texts):
        raise InputError(
            f"{what} for {n_rows} texts in a batch of {n_texts}; give one row for each text, or one for all"
        )


def _check_alone(context: Context, what: str) -> None:
    """Windows of several documents restart their positions: there a row of values belongs to no single text."""
    p, mask = context.positions, context.mask
    if (mask[:, 1:] & mask[:, :-1] & (p[:, 1:] <= p[:, :-1])).any():
        raise InputError(f"{what} for each text, but a row of this batch holds several texts; give them one a row")


class Placed(NamedTuple):
    """Vectors that broadcast against an activation."""

    values: Shaped[Tensor, "..."]
    """On the activation's device, in its dtype."""
    inside: Bool[Tensor, "batch position"] | None
    """False where no vector is given; None where one is given everywhere."""


def place(
    vectors: Shaped[Tensor, "*rows width"], x: Shaped[Tensor, "batch position *head d"], context: Context
) -> Placed:
    """Vectors of an activation's width where they act.

    Args:
        vectors: one for all, [d]; one for each text, [batch, d]; or one for each position, [batch, position, d].
        x: the activation.
        context: the pass.

    Raises:
        InputError: another width than the activation's, or what `look_up` refuses.
    """
    check_width(vectors.shape[-1], x)
    inside = None
    if vectors.ndim == 3:
        vectors, inside = look_up(vectors, context, "values")
    elif vectors.ndim == 2:
        check_rows(len(vectors), context, "values")
        vectors = vectors[:, None]
    return Placed(aligned(vectors, x, context, n_last=1).to(x) if vectors.ndim == 3 else vectors.to(x), inside)


def aligned(rows: Shaped[Tensor, "..."], x: Shaped[Tensor, "..."], context: Context, n_last: int = 0) -> Tensor:
    """Something for each text and position, [batch, position, …], with axes of size 1 where the activation has others.

    Positions are the second axis of an activation, but for attn_pattern: [batch, head, position, position].

    Args:
        rows: [batch, position] and `n_last` axes that are also the activation's last ones.
        x: the activation.
        context: names the site.
        n_last: see `rows`.
    """
    before = 1 if context.site.endswith("attn_pattern") else 0
    between = x.ndim - 2 - before - n_last
    return rows.view(rows.shape[0], *[1] * before, rows.shape[1], *[1] * between, *rows.shape[2:])


def check_width(width: int, x: Shaped[Tensor, "*axes d"]) -> None:
    """Refuses a vector of another width than the activation's.

    Raises:
        InputError: names both widths.
    """
    if width != x.shape[-1]:
        raise InputError(f"a direction or value of width {width} at a site of width {x.shape[-1]}")
