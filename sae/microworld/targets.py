"""The exact distribution of the next word at every place of documents, as a model's targets.

A model trained on it sees no sampling noise: the cross-entropy with the truth has the same minimum as that with sampled
words, at a fraction of the gradient's variance.
"""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from sae.microworld.automaton import START, StateId, state
from sae.microworld.generate import Document
from sae.microworld.model import vocabulary


def next_word_targets(documents: Sequence[Document]) -> Float[Tensor, "document position vocab"]:
    """At position i of a document the distribution of its word i; zero behind its end."""
    width = max(len(document.tokens) for document in documents)
    targets = torch.zeros(len(documents), width, len(vocabulary()))
    for row, document in zip(targets, documents, strict=True):
        at, rows = START, []
        for token in document.tokens:
            rows.append(_distribution(at))
            at = state(at).by_word[token.word].target
        row[: len(rows)] = torch.stack(rows)
    return targets


@cache
def _distribution(at: StateId) -> Float[Tensor, "vocab"]:
    ids, row = vocabulary(), torch.zeros(len(vocabulary()))
    for option in state(at).options:
        row[ids[option.word]] = option.probability
    return row
