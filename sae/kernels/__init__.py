"""Sparse codes and the operations that make and read them.

`reference` is the definition of correct; `sparse` is what everything uses: same names, same values and gradients,
nothing of size tokens × latents kept.
"""

from sae.kernels.code import Code, DenseCode, FixedCode, RaggedCode
from sae.kernels.sparse import (
    encode_batchtopk,
    encode_threshold,
    encode_topk,
    largest,
    sparse_decode,
    sparsify,
    topk,
)

__all__ = [
    "Code",
    "DenseCode",
    "FixedCode",
    "RaggedCode",
    "encode_batchtopk",
    "encode_threshold",
    "encode_topk",
    "largest",
    "sparse_decode",
    "sparsify",
    "topk",
]
