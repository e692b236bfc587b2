"""The microworld: a small language whose causal variables are known, and the model that speaks it.

`documents` writes text; `read` and `judge` parse it; `values` says what every word knows; `twin` and `intervened` give
counterfactuals; `labelled` writes texts with a known variable and their twins. `next_words` is the exact distribution
of the next word. `folder` holds the trained model, `untrained` is its control, `score` judges either.
"""

from sae.microworld.counterfactual import consequence, intervened, twin
from sae.microworld.generate import Document, Token, document, documents, next_words, stream
from sae.microworld.labelled import labelled, labelled_text, twin_of
from sae.microworld.labels import ASPECTS, decisions, label_at, labels, values
from sae.microworld.lexicon import VARIABLES
from sae.microworld.model import folder, tokenizer, untrained, vocabulary
from sae.microworld.parse import Fault, Reading, judge, read
from sae.microworld.taxonomy import TAXONOMY, nouns_of, place_of

__all__ = [
    "ASPECTS",
    "TAXONOMY",
    "VARIABLES",
    "Document",
    "Fault",
    "Reading",
    "Token",
    "consequence",
    "decisions",
    "document",
    "documents",
    "folder",
    "intervened",
    "judge",
    "label_at",
    "labelled",
    "labelled_text",
    "labels",
    "next_words",
    "nouns_of",
    "place_of",
    "read",
    "stream",
    "tokenizer",
    "twin",
    "twin_of",
    "untrained",
    "values",
    "vocabulary",
]
