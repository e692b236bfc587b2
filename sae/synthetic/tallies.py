"""What is counted of a dictionary on rows whose features are known, unit by unit of rows.

A unit is `UNIT` rows that follow one another. Rows of a stream are independent, so units are, and resampling them says
how far the numbers would move with other rows.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae.kernels import Code
from sae.synthetic.forest import NO_PARENT
from sae.synthetic.pairing import NOBODY, Pairing
from sae.synthetic.truth import Stream, Truth

UNIT = 1024
_NOTHING = 1e-6
"""Length below which a row is zero: no feature is active, and no ratio of lengths is defined."""


@runtime_checkable
class Coder(Protocol):
    """What reads activations: a `Dictionary`, or anything with a decoder's rows and these two methods."""

    @property
    def W_dec(self) -> Tensor: ...  # noqa: N802 (the field's name)

    def encode(self, x: Tensor, /) -> Code: ...

    def decode(self, code: Code, /) -> Tensor: ...


class Tallies(NamedTuple):
    """Sums by unit."""

    latents: Float[np.ndarray, "unit 3 latent"]
    """Rows in which a latent is active; in which its nearest feature is; in which both are."""
    features: Float[np.ndarray, "unit 3 feature"]
    """The same for every feature and its own latent; a feature without one meets a latent that is always silent."""
    kin: Float[np.ndarray, "unit 4"]
    """Over children: rows in which child and child's latent are active; of these, those with a silent latent of the
    parent. Over parents: rows in which it is active without a child; of these, those with its latent silent."""
    rows: Float[np.ndarray, "unit 6"]
    """Rows; active latents; Σ‖x − y‖²; Σ‖x‖²; rows that are not zero; of these Σ ‖y‖ / ‖x‖."""
    sums: Float[np.ndarray, "unit d"]
    """Of x."""
    sizes: Float[np.ndarray, "unit 2"]
    """Where a feature and its own latent are active: Σ of what the latent writes along the feature; Σ of the truth."""


class Kin(NamedTuple):
    """Parents and children that have a latent."""

    child: Tensor
    child_latent: Tensor
    parent_latent: Tensor
    """One for every child."""
    parent: Tensor
    own_latent: Tensor
    """One for every parent."""


@torch.no_grad()
def tallied(stream: Stream, coder: Coder, pairing: Pairing, n_rows: int) -> Tallies:
    """The sums over the first `n_rows` rows, in whole units."""
    family = _kin(stream.truth, pairing)
    along = (coder.W_dec[pairing.latents.clamp(min=0)] * stream.truth.directions).sum(1)
    parts = []
    for start in range(0, n_rows, UNIT):
        x, known = stream.rows(start, start + UNIT), stream.codes(start, start + UNIT).dense()
        code = coder.encode(x)
        found = code.dense()
        own = found[:, pairing.latents.clamp(min=0)] * (pairing.latents != NOBODY)
        parts.append(
            Tallies(
                latents=_met(found > 0, (known > 0)[:, pairing.features]),
                features=_met(own > 0, known > 0),
                kin=_kept(known > 0, found > 0, family, stream.truth),
                rows=_of_rows(x, coder.decode(code), found),
                sums=x.double().sum(0).numpy(),
                sizes=_sizes(own * along, known),
            )
        )
    return Tallies(*(np.stack(each) for each in zip(*parts, strict=True)))


def _kin(truth: Truth, pairing: Pairing) -> Kin:
    parents = torch.from_numpy(truth.forest.parents)
    has_latent = pairing.latents != NOBODY
    child = ((parents != NO_PARENT) & has_latent & has_latent[parents.clamp(min=0)]).nonzero().flatten()
    parent = ((torch.from_numpy(truth.forest.first_child) >= 0) & has_latent).nonzero().flatten()
    return Kin(child, pairing.latents[child], pairing.latents[parents[child]], parent, pairing.latents[parent])


def _met(left: Tensor, right: Tensor) -> Float[np.ndarray, "3 column"]:
    """How often left is, right is, and both are, by column."""
    counts = torch.stack([left.sum(0), right.sum(0), (left & right).sum(0)])
    return counts.double().numpy()


def _kept(known: Tensor, found: Tensor, family: Kin, truth: Truth) -> Float[np.ndarray, "4"]:
    shown = known[:, family.child] & found[:, family.child_latent]
    silent = shown & ~found[:, family.parent_latent]
    first = torch.from_numpy(truth.forest.first_child)[family.parent]
    children = first[:, None] + torch.arange(truth.config.branching)
    alone = known[:, family.parent] & ~known[:, children].any(-1)
    silent_alone = alone & ~found[:, family.own_latent]
    return np.array([float(each.sum()) for each in (shown, silent, alone, silent_alone)])


def _of_rows(x: Tensor, y: Tensor, found: Tensor) -> Float[np.ndarray, "6"]:
    x, y = x.double(), y.double()
    lengths = x.norm(dim=1)
    some = lengths > _NOTHING
    ratio = y[some].norm(dim=1) / lengths[some]
    each = ((found > 0).sum(), (x - y).square().sum(), x.square().sum(), some.sum(), ratio.sum())
    return np.array([float(len(x)), *(float(value) for value in each)])


def _sizes(written: Tensor, known: Tensor) -> Float[np.ndarray, "2"]:
    both = (written != 0) & (known > 0)
    return np.array([float(written.double()[both].sum()), float(known.double()[both].sum())])
