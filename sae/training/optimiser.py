"""Adam on dictionaries, with what must hold of their rows.

1. Where decoder rows have unit norm, the part of a row's gradient along the row is removed: it would only be undone by
   step 3, but would enter Adam's moments (Bricken et al. 2023, appendix). 2. Gradients are clipped to a total norm,
   after the projection. 3. After Adam's step rows are scaled back to unit norm, and thresholds are not negative.

Adam moves every number by about the rate. A row of d numbers turns by rate · √d, but a threshold or bias, as large as
a whole pre-activation, moves by the rate alone: in a run of some hundred steps it never arrives. Where these levels
decide how many latents fire they move √d times as far (300 steps, l0 16, JumpReLU on the microworld: L0 6.3, FVU .056,
.56 dead without this and with a controller of larger strengths; L0 16.0, FVU .016, .09 dead with it).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae import kernels
from sae.dictionary import Dictionary
from sae.kernels import AdamStep, Slot
from sae.training.presets import Rows


def adam(dictionary: Dictionary) -> torch.optim.Adam:
    """Adam's moments; `descend` moves them on, each row visited once, with rate and decays of its own."""
    return torch.optim.Adam(dictionary.parameters(), lr=0.0, fused=True)


def descend(dictionary: Dictionary, optimiser: torch.optim.Adam, how: AdamStep, rows: Rows) -> Float[Tensor, ""]:
    """One step along the gradients that the parameters hold; returns their norm before clipping.

    Where it is not finite, neither parameters nor moments move, and the gradients stay for whoever asks which it was.
    """
    unit = {dictionary.W_dec} if rows.unit else set()
    slots = [_slot(optimiser, p, p in unit) for p in dictionary.parameters() if p.grad is not None]
    levels = _levels(dictionary) if rows.quick_levels else []
    before = [level.clone() for level in levels]
    norm = kernels.descend(slots, how)
    if not torch.isfinite(norm):
        return norm
    for parameter in dictionary.parameters():
        if parameter.grad is not None:
            optimiser.state[parameter]["step"] += 1
    for level, start in zip(levels, before, strict=True):
        torch.lerp(start, level, math.sqrt(dictionary.d_in), out=level)
    if rows.thresholds_positive:
        with torch.no_grad():
            dictionary.threshold.clamp_(min=0)
    return norm


@torch.no_grad()
def unit_rows(rows: Float[Tensor, "row d"]) -> None:
    """Scales every row to unit norm, in place."""
    rows.div_(rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny))


def _levels(dictionary: Dictionary) -> list[Tensor]:
    """What pre-activations are compared with or moved by."""
    named = dict(dictionary.named_parameters())
    return [named[name].detach() for name in ("threshold", "b_enc", "b_mag") if name in named]


def _slot(optimiser: torch.optim.Adam, parameter: nn.Parameter, unit: bool) -> Slot:
    """A parameter with its moments as rows; vectors are one row."""
    gradient, state = parameter.grad, optimiser.state[parameter]
    assert gradient is not None
    if not state:
        state["step"] = torch.zeros((), device=parameter.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    tensors = parameter.detach(), gradient.contiguous(), state["exp_avg"], state["exp_avg_sq"]
    as_rows = (t if t.ndim == 2 else t.reshape(1, -1) for t in tensors)
    return Slot(*as_rows, n_steps=int(state["step"]) + 1, unit=unit)
