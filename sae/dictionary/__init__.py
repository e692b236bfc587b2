"""One `Dictionary`: encode, an activation, decode; architectures are its configurations."""

from sae.dictionary.config import Activation, DictionaryConfig, Relu, TopK
from sae.dictionary.dictionary import Dictionary, load

__all__ = ["Activation", "Dictionary", "DictionaryConfig", "Relu", "TopK", "load"]
