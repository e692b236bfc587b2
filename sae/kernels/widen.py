"""Rows of a buffer into a batch: as they are stored, or widened to float32 on the way.

In C++ where it can be built: one pass over memory, written past the cache. Else in torch, with the same numbers.
"""

import ctypes
import functools
import os

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sae.kernels import build
from sae.kernels.choice import VARIABLE

_WIDENED = {torch.float16: "widen_float16", torch.bfloat16: "widen_bfloat16", torch.int8: "widen_int8"}
_SCALE_BYTES = 4


def widen(rows: Shaped[Tensor, "row width"], out: Float[Tensor, "row d"]) -> None:
    """Writes rows into `out`, the numbers of which lie one after the other within a row.

    Args:
        rows: floating, or int8: d numbers, then the four bytes of the float32 that they are times of.
        out: of the type of the rows, or float32.
    """
    loop = _loop(rows, out)
    if loop is None:
        _widen_in_torch(rows, out)
        return
    step = out.stride(0) * (out.element_size() if out.dtype == rows.dtype else 1)
    row_bytes = rows.shape[1] * rows.element_size()
    loop(rows.data_ptr(), row_bytes, *out.shape, out.data_ptr(), step, torch.get_num_threads())


def _widen_in_torch(rows: Tensor, out: Tensor) -> None:
    if rows.dtype == torch.int8:
        scale = rows[:, -_SCALE_BYTES:].contiguous().view(torch.float32)
        torch.mul(rows[:, :-_SCALE_BYTES], scale, out=out)
    else:
        out.copy_(rows)


def _loop(rows: Tensor, out: Tensor) -> "ctypes._NamedFuncPointer | None":
    same = out.dtype == rows.dtype
    together = rows.is_contiguous() and out.stride(-1) == 1 and rows.device.type == out.device.type == "cpu"
    known = same or (out.dtype == torch.float32 and rows.dtype in _WIDENED)
    if os.environ.get(VARIABLE) in ("reference", "sparse") or not (together and known):
        return None
    return _declared("copy_stored" if same else _WIDENED[rows.dtype])


@functools.cache
def _declared(name: str) -> "ctypes._NamedFuncPointer | None":
    library = build.library()
    if library is None:
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    loop = getattr(library, name)
    loop.argtypes = (pointer, count, count, count, pointer, count, ctypes.c_int)
    loop.restype = None
    return loop
