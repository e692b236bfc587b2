"""How much of a known dictionary was found."""

from jaxtyping import Float
from torch import Tensor

from sae.core.measures import unit


def mean_max_cosine(true: Float[Tensor, "n d"], found: Float[Tensor, "m d"]) -> float:
    """MMCS: the mean over true directions of the cosine with the found direction that is nearest.

    Sharkey et al. 2022, "Taking features out of superposition with sparse autoencoders".
    """
    return float((unit(true) @ unit(found).T).amax(1).mean())
