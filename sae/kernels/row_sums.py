"""Sums over rows in float64, by column and by the octave of the row's norm.

In C++ where it can be built: a row is read once, in the type in which it is stored, and stays in the processor's cache.
Else in torch, with other last bits.
"""

import ctypes
import functools
import os
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae.kernels import build
from sae.kernels.choice import VARIABLE

_LOOPS = {
    torch.float32: "sum_rows_float32",
    torch.bfloat16: "sum_rows_bfloat16",
    torch.float16: "sum_rows_float16",
}

_AT_ONCE = 128
"""Rows in float64 at a time, in torch: they stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class RowSums:
    """What rows are added to, in place."""

    total: Float64[Tensor, "d"]
    """Σx."""
    squares: Float64[Tensor, "d"]
    """Σx²."""
    octaves: Float64[Tensor, "octave d"]
    """Σx of the rows whose norm lies in [2^(o + lowest), 2^(o + lowest + 1)), o from 0; shorter and longer ones are in
    the first and the last."""
    lowest: int

    def add(self, x: Float[Tensor, "row d"]) -> Float64[Tensor, "row"]:
        """Adds rows, which are finite; returns the square of each one's norm."""
        x, loop = x.contiguous(), _loop(x.dtype)
        if loop is None:
            return torch.cat([self._add_in_torch(block) for block in x.split(_AT_ONCE)])
        out = torch.empty(len(x), dtype=torch.float64)
        pointers = (tensor.data_ptr() for tensor in (self.total, self.squares, self.octaves))
        loop(x.data_ptr(), *x.shape, *pointers, len(self.octaves), self.lowest, out.data_ptr())
        return out

    def _add_in_torch(self, x: Float[Tensor, "row d"]) -> Float64[Tensor, "row"]:
        rows = x.double()
        squares = rows.square()
        norms = squares.sum(1)
        octave = (norms.log2() / 2).floor() - self.lowest
        self.octaves.index_add_(0, octave.clamp(0, len(self.octaves) - 1).long(), rows)
        self.total.add_(rows.sum(0))
        self.squares.add_(squares.sum(0))
        return norms


def _loop(dtype: torch.dtype) -> "ctypes._NamedFuncPointer | None":
    named = os.environ.get(VARIABLE) in ("reference", "sparse")
    return None if named or dtype not in _LOOPS else _declared(_LOOPS[dtype])


@functools.cache
def _declared(name: str) -> "ctypes._NamedFuncPointer | None":
    library = build.library()
    if library is None:
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    loop = getattr(library, name)
    loop.argtypes, loop.restype = (pointer, count, count, pointer, pointer, pointer, count, count, pointer), None
    return loop
