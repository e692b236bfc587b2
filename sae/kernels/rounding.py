"""Moments kept in bfloat16: rounded up or down with chances that leave their mean exact.

A moment that moves by a thousandth a step moves by less than half of bfloat16's last place, 1/256: rounded to the
nearest it would stand still. So 16 bits of a hash of step and place are added below that place, and what is then below
is cut off ("stochastic rounding", Gupta et al. 2015, arXiv:1502.02551): the hash's lower half for the mean, its upper
half for the mean square. Equal steps give equal bits.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.kernels.loops import Slot

BY_PLACE, BY_STEP, FIRST, SECOND = 0x9E3779B1, 0x85EBCA77, 0x2C1B3C6D, 0x297A2D39
_WORD = 0xFFFFFFFF
_HALF = 0xFFFF


def seed_of(step: int) -> int:
    """What the hash of every place begins with, 32 bits."""
    return step * BY_STEP & _WORD


def widened(slot: Slot) -> Slot:
    """With moments in the parameter's precision; itself where they are."""
    kind = slot.parameter.dtype
    return slot._replace(mean=slot.mean.to(kind), square=slot.square.to(kind))


def keep(slot: Slot, wide: Slot) -> None:
    """Writes the moments of the slot that was widened from this one back, where they are in bfloat16."""
    if slot.mean.dtype == torch.bfloat16:
        h = _hash(slot)
        slot.mean.copy_(_narrowed(wide.mean, h & _HALF))
        slot.square.copy_(_narrowed(wide.square, h >> 16))


def _hash(slot: Slot) -> Int64[Tensor, "row d"]:
    """32 bits for every place."""
    place = torch.arange(slot.mean.numel(), device=slot.mean.device).view(slot.mean.shape)
    h = (place * BY_PLACE + seed_of(slot.n_steps)) & _WORD
    h = ((h ^ (h >> 15)) * FIRST) & _WORD
    h = ((h ^ (h >> 12)) * SECOND) & _WORD
    return h ^ (h >> 15)


def _narrowed(x: Float[Tensor, "row d"], below: Int64[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    """x in bfloat16, which must be finite; `below` are 16 bits."""
    bits = x.float().contiguous().view(torch.int32) + below.to(torch.int32)
    return (bits & ~_HALF).view(torch.float32).to(torch.bfloat16)
