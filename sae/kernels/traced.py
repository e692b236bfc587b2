"""The spelling that `torch.compile` traces: torch's operators and those of `sae.kernels.operators`, nothing else."""

from dataclasses import replace
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from sae.kernels import operators, sparse
from sae.kernels.code import Code, DenseCode, FixedCode, RaggedCode
from sae.kernels.spelling import precision

topk, sparsify, descend = sparse.topk, sparse.sparsify, sparse.descend


def encode_topk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> FixedCode:
    """As `sae.kernels.encode_topk`."""
    code = largest(x, encoder_rows, b_enc, k, centre, selection)
    return FixedCode(code.values.relu(), code.indices, code.d_sae)


def largest(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> FixedCode:
    """As `sae.kernels.largest`."""
    values, indices = operators.largest(_flat(x, centre), encoder_rows, b_enc, k, selection or precision(x))
    shape = (*x.shape[:-1], k)
    return FixedCode(values.view(shape), indices.view(shape), encoder_rows.shape[0])


def encode_batchtopk(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    k: int,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> RaggedCode:
    """As `sae.kernels.encode_batchtopk`."""
    flat = _flat(x, centre)
    found = operators.largest_of_batch(flat, encoder_rows, b_enc, k * flat.shape[0], selection or precision(x))
    values, indices, starts = found
    return RaggedCode(values.relu(), indices, starts, tuple(x.shape[:-1]), encoder_rows.shape[0])


def encode_threshold(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    threshold: Float[Tensor, "d_sae"] | Float[Tensor, ""] | float,
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> RaggedCode:
    """As `sae.kernels.encode_threshold`."""
    floor = torch.as_tensor(threshold, dtype=x.dtype, device=x.device).detach().clamp_min(0).expand_as(b_enc)
    code = above(x, encoder_rows, b_enc, floor, centre, selection)
    return replace(code, values=code.values * ~(code.values <= floor[code.indices]))


def above(
    x: Float[Tensor, "*token d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, "d_sae"],
    floor: Float[Tensor, "d_sae"],
    centre: Float[Tensor, "d_in"] | None = None,
    selection: torch.dtype | None = None,
) -> RaggedCode:
    """As `sae.kernels.above`."""
    given = _flat(x, centre), encoder_rows, b_enc, floor.detach().contiguous()
    values, indices, starts = operators.above(*given, selection or precision(x))
    return RaggedCode(values, indices, starts, tuple(x.shape[:-1]), encoder_rows.shape[0])


def sparse_decode(code: Code, W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "*token d_out"]:
    """As `sae.kernels.sparse_decode`."""
    match code:
        case DenseCode(values=values):
            return values @ W_dec
        case FixedCode(values=values, indices=indices):
            n, k = values.numel() // values.shape[-1], values.shape[-1]
            starts = torch.arange(n + 1, device=values.device) * k
            y = operators.decode(values.reshape(-1), indices.reshape(-1), starts, W_dec)
            return y.view(*values.shape[:-1], W_dec.shape[1])
        case RaggedCode(values=values, indices=indices, starts=starts, shape=shape):
            return operators.decode(values, indices, starts, W_dec).view(*shape, W_dec.shape[1])
        case _:
            assert_never(code)


def _flat(x: Tensor, centre: Tensor | None) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    return flat if centre is None else flat - centre
