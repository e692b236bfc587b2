"""Sparse codes and the operations that make and read them.

`reference` is the definition of correct: dense eager torch. `sparse` and `cpu` have the same names, values and
gradients, and keep nothing of size tokens × latents; they differ in their loops, torch's operators or C++. The
functions here choose between them.
"""

from sae.kernels.code import Code, DenseCode, FixedCode, RaggedCode
from sae.kernels.dispatch import (
    above,
    above_and_between,
    descend,
    encode_batchtopk,
    encode_threshold,
    encode_topk,
    largest,
    marked_sums,
    sparse_decode,
    sparsify,
    topk,
)
from sae.kernels.loops import AdamStep, Slot

__all__ = [
    "AdamStep",
    "Code",
    "DenseCode",
    "FixedCode",
    "RaggedCode",
    "Slot",
    "above",
    "above_and_between",
    "descend",
    "encode_batchtopk",
    "encode_threshold",
    "encode_topk",
    "largest",
    "marked_sums",
    "sparse_decode",
    "sparsify",
    "topk",
]
