"""Interventions: directions, what can be done to activations, and where.

Each operation gives a function f(x, context) that `sae.lm.editing` runs at a site.
"""

from sae.intervention.direction import Direction, Units, load_direction
from sae.intervention.operations import (
    LatentValue,
    add,
    interchange,
    latent_values,
    orthonormal,
    project_out,
    replace,
    set_latents,
    splice,
)
from sae.intervention.positions import Positions, at, everywhere, except_tokens, selected

__all__ = [
    "Direction",
    "LatentValue",
    "Positions",
    "Units",
    "add",
    "at",
    "everywhere",
    "except_tokens",
    "interchange",
    "latent_values",
    "load_direction",
    "orthonormal",
    "project_out",
    "replace",
    "selected",
    "set_latents",
    "splice",
]
