"""Rows of a buffer by number, into a batch: as they are stored, or widened to float32 on the way.

In C++ where it can be built: one pass over memory, the next rows fetched ahead. Else in torch, with the same numbers.
"""

import ctypes
import functools
import os

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from sae.kernels import build
from sae.kernels.choice import VARIABLE

_WIDENED = {torch.float16: "gather_float16", torch.bfloat16: "gather_bfloat16", torch.int8: "gather_int8"}
_SCALE_BYTES = 4
_AT_ONCE = 256
"""Rows that are widened at a time, in torch: they stay in the processor's cache."""


def gather(rows: Shaped[Tensor, "row width"], which: Int64[Tensor, "taken"], out: Float[Tensor, "taken d"]) -> None:
    """Writes rows[which] into `out`, the numbers of which lie one after the other within a row.

    Args:
        rows: floating, or int8: d numbers, then the four bytes of the float32 that they are times of.
        which: row numbers.
        out: of the type of the rows, or float32.
    """
    assert len(which) == len(out)
    loop = _loop(rows, out)
    if loop is None:
        _gather_in_torch(rows, which, out)
        return
    which = which.contiguous()
    step = out.stride(0) * (out.element_size() if out.dtype == rows.dtype else 1)
    row_bytes = rows.shape[1] * rows.element_size()
    to, d = out.data_ptr(), out.shape[1]
    loop(rows.data_ptr(), row_bytes, which.data_ptr(), len(which), d, to, step, torch.get_num_threads())


def _gather_in_torch(rows: Tensor, which: Tensor, out: Tensor) -> None:
    for chosen, place in zip(which.split(_AT_ONCE), out.split(_AT_ONCE), strict=True):
        taken = rows.index_select(0, chosen)
        if rows.dtype == torch.int8:
            scale = taken[:, -_SCALE_BYTES:].contiguous().view(torch.float32)
            torch.mul(taken[:, :-_SCALE_BYTES].float(), scale, out=place)
        else:
            place.copy_(taken)


def _loop(rows: Tensor, out: Tensor) -> "ctypes._NamedFuncPointer | None":
    same = out.dtype == rows.dtype
    together = rows.is_contiguous() and out.stride(-1) == 1 and rows.device.type == out.device.type == "cpu"
    known = same or (out.dtype == torch.float32 and rows.dtype in _WIDENED)
    if os.environ.get(VARIABLE) in ("reference", "sparse") or not (together and known):
        return None
    return _declared("gather_stored" if same else _WIDENED[rows.dtype])


@functools.cache
def _declared(name: str) -> "ctypes._NamedFuncPointer | None":
    library = build.library()
    if library is None:
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    loop = getattr(library, name)
    loop.argtypes = (pointer, count, pointer, count, count, pointer, count, ctypes.c_int)
    loop.restype = None
    return loop
