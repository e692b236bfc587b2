"""Adam, a row of a parameter at a time: gradient, moments and weights are each read and written once, unit rows twice.

Kingma and Ba 2015, arXiv:1412.6980, algorithm 1; what is done to rows of unit norm is said in `sae.kernels.loops`. The
clipping scale stays on the device, so that no step waits for the host.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (a kernel declares its constants as constexpr and is given numbers; its tensors are a tuple's parts)

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.kernels.loops import AdamStep, Slot
from sae.kernels.rounding import seed_of

WIDEST = 2048
"""Columns at a time."""
SHARE = 1024
"""Of a vector that is one row: so many numbers for each program, where that divides it."""


@triton.jit
def _squares(gradient, rows, out, d, UNIT: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    along = tl.zeros([WIDTH], dtype=tl.float32)
    if UNIT:
        for start in range(0, d, WIDTH):
            column = start + tl.arange(0, WIDTH)
            inside = column < d
            g = tl.load(gradient + row * d + column, mask=inside, other=0.0).to(tl.float32)
            along += g * tl.load(rows + row * d + column, mask=inside, other=0.0).to(tl.float32)
    part = tl.sum(along, axis=0)
    squares = tl.zeros([WIDTH], dtype=tl.float32)
    for start in range(0, d, WIDTH):
        column = start + tl.arange(0, WIDTH)
        inside = column < d
        g = tl.load(gradient + row * d + column, mask=inside, other=0.0).to(tl.float32)
        if UNIT:
            g -= part * tl.load(rows + row * d + column, mask=inside, other=0.0).to(tl.float32)
            tl.store(gradient + row * d + column, g.to(gradient.dtype.element_ty), mask=inside)
        squares += g * g
    tl.store(out + row, tl.sum(squares, axis=0))


@triton.jit
def _adam(
    parameter, gradient, mean, square, scale, d, rate, beta1, beta2, correction, epsilon, seed,
    UNIT: tl.constexpr, NARROW: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    clip = tl.load(scale)
    d_moved = tl.where(clip == clip, d, 0)
    norm = tl.zeros([WIDTH], dtype=tl.float32)
    for start in range(0, d, WIDTH):
        column = start + tl.arange(0, WIDTH)
        inside = column < d
        place = row * d + column
        g = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32) * clip
        m = tl.load(mean + place, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(square + place, mask=inside, other=0.0).to(tl.float32)
        m += (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g * g
        p = tl.load(parameter + place, mask=inside, other=0.0).to(tl.float32)
        p -= rate * m / (tl.sqrt(v) * correction + epsilon)
        if NARROW:  # as sae.kernels.rounding; float32 whose lower 16 bits are zero
            h = place.to(tl.uint32) * 0x9E3779B1 + seed.to(tl.uint32)
            h = (h ^ (h >> 15)) * 0x2C1B3C6D
            h = (h ^ (h >> 12)) * 0x297A2D39
            h ^= h >> 15
            m = ((m.to(tl.uint32, bitcast=True) + (h & 0xFFFF)) & 0xFFFF0000).to(tl.float32, bitcast=True)
            v = ((v.to(tl.uint32, bitcast=True) + (h >> 16)) & 0xFFFF0000).to(tl.float32, bitcast=True)
        tl.store(mean + place, m.to(mean.dtype.element_ty), mask=column < d_moved)
        tl.store(square + place, v.to(square.dtype.element_ty), mask=column < d_moved)
        tl.store(parameter + place, p.to(parameter.dtype.element_ty), mask=column < d_moved)
        norm += tl.where(inside, p * p, 0.0)
    if UNIT:
        inverse = 1.0 / tl.maximum(tl.sqrt(tl.sum(norm, axis=0)), 1.17549435e-38)
        for start in range(0, d, WIDTH):
            column = start + tl.arange(0, WIDTH)
            inside = column < d
            p = tl.load(parameter + row * d + column, mask=inside, other=0.0).to(tl.float32)
            tl.store(parameter + row * d + column, (p * inverse).to(parameter.dtype.element_ty), mask=column < d_moved)


def squares(gradient: Float[Tensor, "row d"], unit_rows: Float[Tensor, "row d"] | None) -> Float[Tensor, "part"]:
    """Σ gradient² of each row, or of parts of a long one; what lies along `unit_rows`, if any, is removed first, in
    place.
    """
    if not gradient.is_contiguous():
        raise InputError("the kernel squares takes a contiguous gradient only")
    if unit_rows is None:
        gradient = _divided(gradient)
    n, d = gradient.shape
    out = gradient.new_empty(n, dtype=torch.float32)
    rows = gradient if unit_rows is None else unit_rows
    _squares[(n,)](gradient, rows, out, d, UNIT=unit_rows is not None, WIDTH=_width(d))
    return out


def adam(slot: Slot, scale: Float[Tensor, ""], how: AdamStep) -> None:
    """Moves the rows along their gradient times `scale`, in place; not where that is no number."""
    if not all(tensor.is_contiguous() for tensor in slot[:4]):
        raise InputError("the kernel adam takes contiguous tensors only")
    tensors = slot[:4] if slot.unit else [_divided(tensor) for tensor in slot[:4]]
    n, d = tensors[0].shape
    rate = how.rate / (1 - how.beta1**slot.n_steps)
    correction = (1 - how.beta2**slot.n_steps) ** -0.5
    numbers = rate, how.beta1, how.beta2, correction, how.epsilon
    seed, narrow = seed_of(slot.n_steps), slot.mean.dtype == torch.bfloat16
    _adam[(n,)](*tensors, scale, d, *numbers, seed, UNIT=slot.unit, NARROW=narrow, WIDTH=_width(d))


def _divided(rows: Float[Tensor, "row d"]) -> Float[Tensor, "share column"]:
    """Many short rows in place of one long one, of whose norm nothing is asked."""
    one_long = len(rows) == 1 and rows.shape[1] > SHARE and rows.shape[1] % SHARE == 0
    return rows.view(-1, SHARE) if one_long else rows


def _width(d: int) -> int:
    return min(WIDEST, triton.next_power_of_2(d))
