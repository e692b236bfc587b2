"""Adam on dictionaries, with what must hold of their rows.

1. Where decoder rows have unit norm, the part of a row's gradient along the row is removed: it would only be undone by
   step 3, but would enter Adam's moments (Bricken et al. 2023, appendix). 2. Gradients are clipped to a total norm,
   after the projection. 3. After Adam's step rows are scaled back to unit norm, and thresholds are not negative.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from sae.dictionary import Dictionary
from sae.training.presets import Rows


def adam(dictionary: Dictionary) -> torch.optim.Adam:
    """Adam (0.9, 0.999, ε 1e-8), each parameter visited once a step; the rate is set at every step."""
    return torch.optim.Adam(dictionary.parameters(), lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)


def descend(
    dictionary: Dictionary, optimiser: torch.optim.Adam, rate: float, clip: float, rows: Rows
) -> Float[Tensor, ""]:
    """One step along the gradients that the parameters hold; returns their norm before clipping."""
    if rows.unit:
        _remove_radial(dictionary)
    norm = clip_grad_norm_(dictionary.parameters(), clip)
    optimiser.param_groups[0]["lr"] = rate
    optimiser.step()
    optimiser.zero_grad()
    if rows.unit:
        unit_rows(dictionary.W_dec)
    if rows.thresholds_positive:
        with torch.no_grad():
            dictionary.threshold.clamp_(min=0)
    return norm


@torch.no_grad()
def unit_rows(rows: Float[Tensor, "row d"]) -> None:
    """Scales every row to unit norm, in place."""
    rows.div_(rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny))


@torch.no_grad()
def _remove_radial(dictionary: Dictionary) -> None:
    gradient = dictionary.W_dec.grad
    assert gradient is not None
    along = torch.linalg.vecdot(gradient, dictionary.W_dec)
    gradient.addcmul_(dictionary.W_dec, along[:, None], value=-1.0)
