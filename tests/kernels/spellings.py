"""Every spelling of the kernels that this machine has, with the precisions that it takes."""

from types import ModuleType
from typing import Any

import pytest
import torch

from sae.kernels import build, cpu, sparse

COMPILED = pytest.mark.skipif(build.library() is None, reason="no C++ compiler here")
SPELLINGS = [pytest.param(sparse, id="sparse"), pytest.param(cpu, id="cpu", marks=COMPILED)]
CASES: list[Any] = [
    pytest.param(sparse, torch.float32, id="sparse-float32"),
    pytest.param(sparse, torch.float64, id="sparse-float64"),
    pytest.param(cpu, torch.float32, id="cpu-float32", marks=COMPILED),
]


def precision(kernel: ModuleType) -> torch.dtype:
    """The most exact precision that it takes."""
    return torch.float32 if kernel is cpu else torch.float64
