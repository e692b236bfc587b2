"""Adam on dictionaries whose decoder rows keep unit norm.

1. The part of a decoder row's gradient along the row is removed: it would only be undone by step 3, but would enter
   Adam's moments (Bricken et al. 2023, appendix). 2. Gradients are clipped to a total norm, after the projection.
3. After Adam's step the rows are scaled back to unit norm.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from sae.dictionary import Dictionary


def adam(dictionary: Dictionary) -> torch.optim.Adam:
    """Adam (0.9, 0.999, ε 1e-8), each parameter visited once a step; the rate is set at every step."""
    return torch.optim.Adam(dictionary.parameters(), lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)


def descend(dictionary: Dictionary, optimiser: torch.optim.Adam, rate: float, clip: float) -> Float[Tensor, ""]:
    """One step along the gradients that the parameters hold; returns their norm before clipping."""
    _remove_radial(dictionary)
    norm = clip_grad_norm_(dictionary.parameters(), clip)
    optimiser.param_groups[0]["lr"] = rate
    optimiser.step()
    optimiser.zero_grad()
    unit_rows(dictionary)
    return norm


@torch.no_grad()
def unit_rows(dictionary: Dictionary) -> None:
    """Scales every decoder row to unit norm, in place."""
    rows = dictionary.W_dec
    rows.div_(rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny))


@torch.no_grad()
def _remove_radial(dictionary: Dictionary) -> None:
    gradient = dictionary.W_dec.grad
    assert gradient is not None
    along = torch.linalg.vecdot(gradient, dictionary.W_dec)
    gradient.addcmul_(dictionary.W_dec, along[:, None], value=-1.0)
