"""One `Dictionary`: encode, an activation, decode; architectures are its configurations."""

from sae.dictionary.config import (
    Activation,
    BatchTopK,
    DictionaryConfig,
    Gated,
    JumpRelu,
    MatchingPursuit,
    Part,
    Relu,
    TopK,
)
from sae.dictionary.dictionary import Dictionary, load

__all__ = [
    "Activation",
    "BatchTopK",
    "Dictionary",
    "DictionaryConfig",
    "Gated",
    "JumpRelu",
    "MatchingPursuit",
    "Part",
    "Relu",
    "TopK",
    "load",
]
