"""Several processes as one: data × dictionary, collectives that are the identity in a world of one, shares of latents.

Whoever computes is given a `Mesh` and calls its collectives; nobody asks how many processes there are.
"""

from sae.parallel.axis import Alone, Axis, Ranks, token_mean
from sae.parallel.device import device_of
from sae.parallel.latents import join, share, split
from sae.parallel.mesh import Mesh, is_first, n_processes, started
from sae.parallel.topk import merged, selected

__all__ = [
    "Alone",
    "Axis",
    "Mesh",
    "Ranks",
    "device_of",
    "is_first",
    "join",
    "merged",
    "n_processes",
    "selected",
    "share",
    "split",
    "started",
    "token_mean",
]
