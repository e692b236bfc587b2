"""The microworld: a small language whose causal variables are known, and the model that speaks it.

`documents` writes text, `labelled` texts with a known variable and their counterfactual twins, `folder` holds the
trained model, `untrained` is its control. `next_words` is the exact distribution of the next word.
"""

from sae.microworld.frames import VARIABLES
from sae.microworld.generate import (
    Document,
    Sentence,
    document,
    documents,
    intervene,
    next_words,
    read,
    sentence,
    stream,
)
from sae.microworld.labelled import labelled, labels, twin_of
from sae.microworld.model import folder, tokenizer, untrained, vocabulary

__all__ = [
    "VARIABLES",
    "Document",
    "Sentence",
    "document",
    "documents",
    "folder",
    "intervene",
    "labelled",
    "labels",
    "next_words",
    "read",
    "sentence",
    "stream",
    "tokenizer",
    "twin_of",
    "untrained",
    "vocabulary",
]
