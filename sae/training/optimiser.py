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
import sys

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from sae import kernels
from sae.dictionary import Dictionary
from sae.kernels import AdamStep, Slot
from sae.kernels.pool import give_back
from sae.training.presets import Rows

_OURS = 2
"""References to a gradient that nobody keeps: a variable and the argument of the call that counts them."""


class Adam:
    """Adam's moments, by parameter; `descend` moves them on, each row visited once.

    torch's own optimiser would bring its compiler into memory, 67 MB that the compiled kernels have no use for.
    """

    def __init__(self, dictionary: Dictionary, moments: torch.dtype) -> None:
        self._dictionary = dictionary
        learnt = [p for p in dictionary.parameters() if p.requires_grad]
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {p: _nothing_seen(p, moments) for p in learnt}
        """step, exp_avg and exp_avg_sq of every parameter that learns: the names that torch gives them."""
        # What stays for the whole run has its place before anything passes: between tensors that come and go it would
        # leave holes that nothing fits (a third of the peak at d 512, d_sae 8192).
        for parameter in learnt:
            give_back(torch.empty_like(parameter, requires_grad=False))

    def count_step(self) -> None:
        """One more step was made, of those parameters that have a gradient."""
        for parameter in self._dictionary.parameters():
            if parameter.grad is not None:
                self.state[parameter]["step"] += 1

    def zero_grad(self) -> None:
        """Lets go of all gradients; their memory serves the next step, but of those that somebody else kept."""
        for parameter in self._dictionary.parameters():
            gradient, parameter.grad = parameter.grad, None
            if gradient is not None and sys.getrefcount(gradient) == _OURS:
                give_back(gradient)


def _nothing_seen(parameter: nn.Parameter, moments: torch.dtype) -> dict[str, Tensor]:
    zeros = [torch.zeros_like(parameter, dtype=moments, requires_grad=False) for _ in range(2)]
    return {"step": torch.zeros(()), "exp_avg": zeros[0], "exp_avg_sq": zeros[1]}


def adam(dictionary: Dictionary, moments: torch.dtype = torch.float32) -> Adam:
    """Before the first step; moments are kept in that precision."""
    return Adam(dictionary, moments)


def descend(
    dictionary: Dictionary, optimiser: Adam, how: AdamStep, rows: Rows, loss: Float64[Tensor, ""]
) -> Float[Tensor, ""]:
    """One step along the gradients that the parameters hold; returns their norm before clipping.

    Where that or the loss is not finite, the norm is none, neither parameters nor moments move, and the gradients stay
    for whoever asks which it was. Nobody is asked here: who reads the norm and finds it finite calls
    `optimiser.count_step`.
    """
    unit = {dictionary.W_dec} if rows.unit else set()
    slots = [_slot(optimiser, p, p in unit) for p in dictionary.parameters() if p.grad is not None]
    levels = _levels(dictionary) if rows.quick_levels else []
    before = [level.clone() for level in levels]
    # A loss that is no number leaves no gradient to go along: the smallest, for the norm is that of all.
    min((slot.gradient for slot in slots), key=torch.Tensor.numel).add_(0 * loss)
    norm = kernels.descend(slots, how)
    for level, start in zip(levels, before, strict=True):
        further = torch.lerp(start, level, math.sqrt(dictionary.d_in))
        level.copy_(torch.where(norm.isfinite(), further, start))
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


def _slot(optimiser: Adam, parameter: nn.Parameter, unit: bool) -> Slot:
    """A parameter with its moments as rows; vectors are one row."""
    gradient, state = parameter.grad, optimiser.state[parameter]
    assert gradient is not None
    tensors = parameter.detach(), gradient.contiguous(), state["exp_avg"], state["exp_avg_sq"]
    as_rows = (t if t.ndim == 2 else t.reshape(1, -1) for t in tensors)
    return Slot(*as_rows, n_steps=int(state["step"]) + 1, unit=unit)
