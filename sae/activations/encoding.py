"""How a row of activations is written: float32 and float16 as themselves, bfloat16 as 16-bit words.

HDF5 has no bfloat16; its words are stored as little-endian uint16 and named in the attribute `dtype`.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
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
}


def words(x: Float[Tensor, "row d"]) -> np.ndarray:
    """The stored form of rows that are already of the storage dtype; shares their memory."""
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).contiguous().numpy()


def rows_of(stored: np.ndarray, encoding: Encoding) -> Float[Tensor, "row d"]:
    """Rows of the storage dtype from their stored form; shares its memory."""
    x = torch.from_numpy(stored)
    return x.view(torch.bfloat16) if encoding == "bfloat16" else x
