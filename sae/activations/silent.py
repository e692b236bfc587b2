"""How many latents are born silent: what γ alone says of a dictionary that starts with random directions at the origin.

1. A latent with a random unit encoder row w reads w·x = w·μ + w·(x − μ). In units of σ/√d the first is γz, z ~ N(0, 1)
   over latents; the second is about N(0, 1) over tokens, σ² = E‖x − μ‖².
2. Of all d_sae values of a token the k-th largest lies near √(1 + γ²)·q, q = Φ⁻¹(1 − k/d_sae).
3. So a latent fires on a token with the chance p(z) = Φ(γz − √(1 + γ²)·q), and on none of n tokens with (1 − p)ⁿ:

    silent share = E_z (1 − p(z))ⁿ

It grows with γ from 0 to 1 − k/d_sae: the law that arXiv 2605.31518 observed, for the start. Training may revive some
(AuxK), so this predicts trouble, not what is left of it. On normal rows (d 32, 256 latents, 8 active, 16,384 tokens,
eight seeds) it says 0.10, 0.54, 0.87 and 0.952 for γ of 1, 2, 5 and 20; counted were 0.08, 0.55, 0.86 and 0.949.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtri

_N_POINTS = 4096
"""Of the integral over z, at equal steps of probability."""


class Shape(NamedTuple):
    """The dictionary that is meant to be trained."""

    d_sae: int
    """Latents."""
    l0: int
    """Of them active at a token."""


DEFAULT = Shape(d_sae=1024, l0=16)
"""What the trainer makes unless told otherwise."""


def silent_share(gamma: float, shape: Shape, n_tokens: int) -> float:
    """The share of latents that fire on none of `n_tokens` when training starts without a centre.

    Args:
        gamma: ‖mean‖ / ‖standard deviation‖, at least 0.
        shape: of the dictionary.
        n_tokens: at least one.
    """
    if shape.l0 >= shape.d_sae:
        return 0.0
    z = ndtri((np.arange(_N_POINTS) + 0.5) / _N_POINTS)
    threshold = np.hypot(1, gamma) * -ndtri(shape.l0 / shape.d_sae)
    return float(np.exp(n_tokens * log_ndtr(threshold - gamma * z)).mean())
