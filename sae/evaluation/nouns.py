"""The microworld's taxonomy over the rows of a harvest: a hierarchy whose truth is known.

Every noun has a place: kingdom → class → leaf → the noun itself, in either number. Each of these is a class with
children, so a latent for "animal" may be absorbed by one for "bird", and a latent for "bird" by one for "owl".
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int
from scipy.sparse import csr_array, vstack
from torch import Tensor

from sae.activations.reader import Activations
from sae.core.splits import Split
from sae.dictionary.dictionary import Dictionary
from sae.dictionary.sites import SpliceSites
from sae.evaluation.absorption import ClassTokens, Placed
from sae.evaluation.active import active
from sae.microworld.model import vocabulary
from sae.microworld.taxonomy import NOUNS, TAXONOMY

LEVELS = ("kingdom", "class", "leaf")
_ROWS = 4096


def children() -> dict[tuple[str, str], tuple[tuple[str, ...], ...]]:
    """For every (level, class) the nouns of each of its children."""
    found: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = {}
    for kingdom, middles in TAXONOMY.items():
        found["kingdom", kingdom] = tuple(_nouns(leaves) for leaves in middles.values())
        for middle, leaves in middles.items():
            found["class", middle] = tuple(_nouns((leaf,)) for leaf in leaves)
            for leaf in leaves:
                found["leaf", leaf] = NOUNS[leaf]
    return dict(sorted(found.items(), key=lambda item: LEVELS.index(item[0][0])))


def _nouns(leaves: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for leaf in leaves for pair in NOUNS[leaf] for word in pair)


def placed_nouns(
    activations: Activations,
    split: Split,
    sites: SpliceSites,
    dictionary: Dictionary,
    units: Int[np.ndarray, "document"],
    most: int,
) -> Placed:
    """The nouns among the rows of a split, coded by a dictionary.

    Args:
        activations: a harvest of the microworld's own model.
        split: whose rows.
        sites: what the dictionary reads and writes.
        dictionary: what codes them.
        units: for every document its number among the resampled ones, −1 for those that do not count.
        most: nouns that are read, at most, from the beginning.
    """
    ids, documents = activations.token_ids(split), units[activations.documents(split)]
    is_noun = np.zeros(max(len(vocabulary()), int(ids.max(initial=0)) + 1), dtype=bool)
    is_noun[[vocabulary()[noun] for noun in _nouns(tuple(NOUNS))]] = True
    (rows,) = np.nonzero(is_noun[ids] & (documents >= 0))
    rows = rows[:most]
    read, written = (_rows(activations, split, each, rows) for each in (sites.read, sites.written))
    codes = [_code(dictionary, read[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)]
    code = csr_array(vstack(codes)) if codes else csr_array((0, dictionary.d_sae))
    classes = tuple(_class(level, name, of, ids[rows]) for (level, name), of in children().items())
    return Placed(classes, code, written.numpy(), documents[rows])


def _rows(
    activations: Activations, split: Split, sites: Sequence[str], rows: Int[np.ndarray, "noun"]
) -> Float32[Tensor, "noun d"]:
    return torch.cat([activations.take(split, site, rows) for site in sites], dim=1)


@torch.no_grad()
def _code(dictionary: Dictionary, x: Float32[Tensor, "noun d"]) -> csr_array:
    entries = active(dictionary.encode(x.to(dictionary.b_dec.device)))
    return csr_array((entries.values, (entries.tokens, entries.latents)), shape=(len(x), dictionary.d_sae))


def _class(
    level: str, name: str, of_children: tuple[tuple[str, ...], ...], ids: Int[np.ndarray, "noun"]
) -> ClassTokens:
    child = np.full(len(vocabulary()), -1, dtype=np.int64)
    for number, nouns in enumerate(of_children):
        child[[vocabulary()[noun] for noun in nouns]] = number
    return ClassTokens(name, level, child[ids])
