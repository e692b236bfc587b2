"""Which spelling a call goes to: C++ for float32 on a processor, Triton on a GPU, else the one in torch.

`SAE_KERNELS` set to reference, sparse, cpu or triton names it instead, for tests and to find a fault; cpu takes float32
only, so other precisions still go to the one in torch.
"""

import functools
import importlib
import importlib.util
import logging
import os
import shutil
from types import ModuleType

import torch
from torch import Tensor

from sae.core.errors import InputError
from sae.kernels import build, cpu, reference, sparse
from sae.kernels.loops import Loops

VARIABLE = "SAE_KERNELS"
_TRITON_TAKES = (torch.float32, torch.bfloat16, torch.float16)
_NAMES = ("reference", "sparse", "cpu", "triton")
_SPELLINGS = {"reference": reference, "sparse": sparse}


def chosen(*tensors: Tensor) -> ModuleType:
    """The module whose functions take these tensors.

    Raises:
        InputError: `SAE_KERNELS` names no spelling.
    """
    named = os.environ.get(VARIABLE)
    if named and named not in _NAMES:
        raise InputError(f"{VARIABLE}={named!r}: no such kernels; there are {', '.join(_NAMES)}")
    if named in _SPELLINGS:
        return _SPELLINGS[named]
    if named == "triton" or (not named and all(tensor.is_cuda for tensor in tensors)):
        known = all(tensor.dtype in _TRITON_TAKES for tensor in tensors)
        return (_triton() if known else None) or sparse
    if any(tensor.dtype != torch.float32 or tensor.device.type != "cpu" for tensor in tensors):
        return sparse
    return cpu if named or build.library() is not None else sparse


@functools.cache
def _triton() -> ModuleType | None:
    """The kernels for a GPU; none, and one notice in the log, where the package or its C compiler is missing."""
    missing = _triton_lacks()
    if missing is not None:
        logging.getLogger("sae.kernels").warning("%s: the slower kernels in torch take its place", missing)
        return None
    return importlib.import_module("sae.kernels.triton_ops")


def _triton_lacks() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "no package triton (pip install sae[triton])"
    # It compiles its launchers where it runs, but in the interpreter it runs nothing.
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    if os.environ.get("TRITON_INTERPRET") != "1" and not any(map(shutil.which, compilers)):
        return f"no C compiler for triton ({' or '.join(compilers)} not found)"
    return None


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions that multiply bfloat16, so that its products are faster than float32's."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch says it in public only since 2.13.
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def loops_for(*tensors: Tensor) -> Loops:
    """The loops of that spelling; those in torch for the reference, which has none."""
    module = chosen(*tensors)
    return sparse.LOOPS if module is reference else module.LOOPS
