"""Every latent of a dictionary with its evidence: where it fires, what it promotes, what lies beside it."""

from sae.catalogue.catalogue import Catalogue
from sae.catalogue.records import Example, Feature

__all__ = ["Catalogue", "Example", "Feature"]
