"""Absorption: a latent for a wide class falls silent where a latent for a narrower one fires and carries it along.

Chanin et al. 2024 (arXiv:2409.14507) found it where "starts with s" is missing on "short". There the classes are
guessed from a probe; here a hierarchy is given with every token's place in it, so the truth is known.

For every class with children, on tokens that have a place in the hierarchy:

1. Its latent is the one whose firing tells the class best: the largest share of its tokens told less the share of
   others (Youden's J). The class is *found* where J ≥ `FOUND`; only then can it be absorbed.
2. Its direction is the mean activation of its tokens less that of the others, at unit length.
3. A latent belongs to one child where at least `SPECIFIC` of the tokens that it fires on are that child's.
4. A token of the class is absorbed where the class's latent is silent, and a latent of the token's own child writes
   along the class's direction at least `CARRIED` of what the class's latent writes where it fires.

Latents, directions and sizes are chosen on one split (1–3) and tokens are judged on another (4). The score is the share
of absorbed tokens, a mean over the classes that are found. A dictionary that has no latent for any class, but only for
their children, absorbs nothing: how many classes are found stands beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

FOUND = 0.5
SPECIFIC = 0.8
CARRIED = 0.5
FEWEST = 5
"""Tokens that a latent must fire on to belong to a child."""


class ClassTokens(NamedTuple):
    """One class: which of its children every token belongs to."""

    name: str
    level: str
    child: Int[np.ndarray, "token"]
    """Number of the child, −1 for tokens of other classes."""

    @property
    def members(self) -> Bool[np.ndarray, "token"]:
        return self.child >= 0


class Placed(NamedTuple):
    """Tokens with a place in a hierarchy, as a dictionary sees them."""

    classes: Sequence[ClassTokens]
    code: csr_array
    """[token, latent]: activations."""
    x: Float[np.ndarray, "token d"]
    """What the dictionary should write."""
    documents: Int[np.ndarray, "token"]
    """The resampled document of each token."""


class ClassLatent(NamedTuple):
    """What stands for a class, chosen on one split."""

    latent: int
    youden: float
    """Share of the class's tokens that it fires on, less that of other tokens."""
    carried: Float[np.ndarray, "latent"]
    """What one unit of each latent writes along the class's direction."""
    needed: float
    """What a latent must write there to carry the class."""
    child_of: Int[np.ndarray, "latent"]
    """The child that a latent belongs to; −1 for none, and for the class's own latent."""

    @property
    def is_found(self) -> bool:
        return self.youden >= FOUND


class Absorbed(NamedTuple):
    """What became of one class's tokens, as sums per document."""

    name: str
    level: str
    chosen: ClassLatent
    n_tokens: Float[np.ndarray, "document"]
    n_silent: Float[np.ndarray, "document"]
    n_absorbed: Float[np.ndarray, "document"]


def absorbed(
    choose: Placed, judge: Placed, decoder: Float[np.ndarray, "latent d"], n_documents: int
) -> tuple[Absorbed, ...]:
    """What became of every class that has tokens in both splits.

    Args:
        choose: tokens that latents are chosen on.
        judge: tokens of another split; the same classes.
        decoder: the dictionary's decoder rows.
        n_documents: documents that `judge.documents` numbers.
    """
    found = []
    for number, one in enumerate(choose.classes):
        if one.members.any() and not one.members.all() and judge.classes[number].members.any():
            chosen = class_latent(choose, number, decoder)
            found.append(_judged(judge, number, chosen, n_documents))
    return tuple(found)


def class_latent(choose: Placed, number: int, decoder: Float[np.ndarray, "latent d"]) -> ClassLatent:
    """The latent of a class, and what others would have to do to absorb it."""
    one, fires = choose.classes[number], _fires(choose.code)
    members = one.members
    inside, everywhere = fires.T @ members.astype(float), np.asarray(fires.sum(0), dtype=float)
    youden = inside / members.sum() - (everywhere - inside) / (~members).sum()
    latent = int(youden.argmax())
    direction = choose.x[members].mean(0) - choose.x[~members].mean(0)
    carried = decoder.astype(np.float64) @ (direction / max(float(np.linalg.norm(direction)), 1e-30))
    own = choose.code[:, [latent]].toarray()[members, 0]
    size = float(own[own > 0].mean()) if (own > 0).any() else 0.0
    child_of = _child_of(fires, one, everywhere)
    child_of[latent] = -1
    return ClassLatent(latent, float(youden[latent]), carried, CARRIED * size * float(carried[latent]), child_of)


def _fires(code: csr_array) -> csr_array:
    """1 where a latent is active."""
    return csr_array(((code.data > 0).astype(float), code.indices, code.indptr), shape=code.shape)


def _child_of(fires: csr_array, one: ClassTokens, n_fires: Float[np.ndarray, "latent"]) -> Int[np.ndarray, "latent"]:
    """The child that most of a latent's tokens belong to, where they are enough and nearly all."""
    n_children = int(one.child.max()) + 1
    of_child = np.zeros((len(one.child), n_children))
    of_child[np.flatnonzero(one.members), one.child[one.members]] = 1
    counts = fires.T @ of_child
    clear = (counts.max(1) >= SPECIFIC * n_fires) & (n_fires >= FEWEST)
    return np.where(clear, counts.argmax(1), -1)


def _judged(judge: Placed, number: int, chosen: ClassLatent, n_documents: int) -> Absorbed:
    one = judge.classes[number]
    silent = one.members & (judge.code[:, [chosen.latent]].toarray()[:, 0] <= 0)
    entries = judge.code.tocoo()
    tokens, latents = entries.coords
    belongs = (chosen.child_of[latents] == one.child[tokens]) & (chosen.child_of[latents] >= 0)
    carries = entries.data * chosen.carried[latents] >= max(chosen.needed, 1e-12)
    taken = np.zeros(len(silent), dtype=bool)
    taken[tokens[belongs & carries]] = True
    counts = (
        np.bincount(judge.documents, some.astype(float), minlength=n_documents)
        for some in (one.members, silent, silent & taken)
    )
    return Absorbed(one.name, one.level, chosen, *counts)


def absorbed_fraction(
    weights: Float[np.ndarray, "resample document"], classes: Sequence[Absorbed], silent: bool = False
) -> Float[np.ndarray, "resample"]:
    """Share of absorbed tokens, a mean over the classes that are found; not a number where none is.

    Args:
        weights: over the documents.
        classes: what became of each.
        silent: count every token on which the class's latent is silent, absorbed or not.
    """
    found = [one for one in classes if one.chosen.is_found]
    if not found:
        return np.full(len(weights), np.nan)
    n = np.stack([one.n_tokens for one in found], 1)
    lost = np.stack([one.n_silent if silent else one.n_absorbed for one in found], 1)
    with np.errstate(invalid="ignore"):
        shares = (weights @ lost) / (weights @ n)
    # A resample without any token of a class says nothing of it.
    return np.asarray(np.ma.masked_invalid(shares).mean(1).filled(np.nan))
