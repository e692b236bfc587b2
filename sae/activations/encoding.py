"""How a row of activations is written: float32 and float16 as themselves, bfloat16 as 16-bit words, int8 with a scale.

1. HDF5 has no bfloat16; its words are stored as little-endian uint16 and named in the attribute `dtype`.
2. An int8 row is x ≈ q · s with s = max |x| / 127 and q rounded to the nearest whole number. It is stored as d + 4
   bytes: the d numbers q, then s as a little-endian float32, so that a row is whole wherever it is read.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from sae.activations.config import Encoding

TORCH: dict[Encoding, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
STORED: dict[Encoding, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "int8": np.dtype("i1"),
}
_SCALE_BYTES = 4
_LARGEST = 127


def width(d: int, encoding: Encoding) -> int:
    """Columns of the stored array for rows of width d."""
    return d + _SCALE_BYTES if encoding == "int8" else d


def encode(x: Float[Tensor, "row d"], encoding: Encoding) -> Shaped[np.ndarray, "row width"]:
    """The stored form of rows on the host; shares their memory where nothing has to change.

    A number too large for the encoding becomes infinite, as torch casts it; in int8 none is too large, and a row that
    is not finite has a scale that is not.
    """
    if encoding == "int8":
        return _quantised(x.float())
    x = x.to(TORCH[encoding])
    return (x.view(torch.uint16) if encoding == "bfloat16" else x).contiguous().numpy()


def _quantised(x: Float32[Tensor, "row d"]) -> np.ndarray:
    stored = torch.empty(len(x), x.shape[1] + _SCALE_BYTES, dtype=torch.int8)
    scale = x.abs().amax(1, keepdim=True) / _LARGEST
    # The scale of numbers near the smallest that float32 knows is rounded so far that more than 127 of it are needed.
    stored[:, :-_SCALE_BYTES] = (x / torch.where(scale == 0, 1, scale)).round_().clamp_(-_LARGEST, _LARGEST)
    stored[:, -_SCALE_BYTES:] = scale.view(torch.int8)
    return stored.numpy()


def rows_of(stored: Shaped[np.ndarray, "row width"], encoding: Encoding) -> Shaped[Tensor, "row width"]:
    """A tensor that shares the memory of rows in their stored form; `values` says what they are."""
    rows = torch.from_numpy(stored)
    return rows.view(torch.bfloat16) if encoding == "bfloat16" else rows


def values(rows: Shaped[Tensor, "row width"], encoding: Encoding) -> Float32[Tensor, "row d"]:
    """The numbers that rows from `rows_of` stand for."""
    if encoding != "int8":
        return rows.float()
    scale = rows[:, -_SCALE_BYTES:].contiguous().view(torch.float32)
    return rows[:, :-_SCALE_BYTES].float().mul_(scale)
