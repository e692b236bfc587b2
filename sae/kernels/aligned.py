"""Memory that begins where a page does.

The system copies into it from the page cache three times as fast as where numpy puts memory, 16 bytes off (measured on
a processor of AMD, slices of 24 kB), and rows can be written to it past the processor's cache.
"""

from typing import Any

import numpy as np
from jaxtyping import Shaped

PAGE = 4096


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Shaped[np.ndarray, "..."]:
    """As `numpy.empty`."""
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(n_bytes + PAGE, np.uint8)
    start = -memory.ctypes.data % PAGE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Shaped[np.ndarray, "..."]:
    """As `numpy.zeros`."""
    memory = aligned_empty(shape, dtype)
    memory[:] = 0
    return memory
