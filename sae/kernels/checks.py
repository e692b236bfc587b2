"""What the kernels refuse: loops in C++ and in Triton would read past the end of a tensor that is too short."""

import torch
from torch import Tensor

from sae.core.errors import InputError

SELECTIONS = (torch.float32, torch.bfloat16)
"""Precisions in which latents are chosen, beside that of the activations; float16 would overflow unseen."""


def check_linear(
    x: Tensor,
    encoder_rows: Tensor,
    b_enc: Tensor,
    centre: Tensor | None = None,
    selection: torch.dtype | None = None,
    levels: Tensor | float = 0.0,
) -> None:
    """The parts of a linear map fit each other.

    Args:
        levels: thresholds, one for each latent; a number or a tensor without axes is one for all.

    Raises:
        InputError: they do not; names the part and what fits.
    """
    d_sae, d_in = encoder_rows.shape
    if not d_sae:
        raise InputError("encoder_rows has no rows; a dictionary has at least one latent")
    if x.shape[-1] != d_in:
        raise InputError(f"x has width {x.shape[-1]}; encoder_rows read {d_in}")
    if b_enc.shape != (d_sae,):
        raise InputError(f"b_enc has shape {list(b_enc.shape)}; it takes [{d_sae}], one number for each latent")
    if centre is not None and centre.shape != (d_in,):
        raise InputError(f"centre has shape {list(centre.shape)}; it takes [{d_in}], the width of x")
    if isinstance(levels, Tensor) and levels.ndim and levels.shape != (d_sae,):
        raise InputError(f"thresholds have shape {list(levels.shape)}; they take [{d_sae}] or none")
    if selection not in (None, x.dtype, *SELECTIONS):
        raise InputError(f"latents are chosen in float32 or bfloat16, or in the precision of x; not in {selection}")


def check_k(name: str, k: int, most: int | None = None) -> None:
    """Raises InputError where a kernel is to keep fewer than one latent, or more than there are."""
    if k < 1 or (most is not None and k > most):
        allowed = "at least 1 latent" if most is None else f"1 to d_sae = {most} latents"
        raise InputError(f"the kernel {name} keeps {allowed}, got k = {k}")


def check_pairs(values: Tensor, indices: Tensor, starts: Tensor, n_rows: int) -> None:
    """Raises InputError where a code's parts do not fit each other or the decoder's rows; no GPU is asked."""
    if values.shape != indices.shape:
        raise InputError(f"a code has {values.numel()} values and {indices.numel()} latents; each value has one latent")
    if starts.dtype != torch.int64:
        raise InputError(f"the bounds of a code's tokens are int64 numbers, got {starts.dtype}")
    if starts.device.type == "cpu" and (starts[0] != 0 or starts[-1] != len(values) or (starts.diff() < 0).any()):
        raise InputError(f"the bounds of a code's tokens rise from 0 to its {len(values)} pairs; these do not")
    _check_latents(indices, n_rows)


def check_overflow(found: Tensor, *given: Tensor) -> None:
    """Raises InputError where sums pass float16's end, 65,504; float32 and bfloat16 are then far from theirs."""
    if found.dtype != torch.float16 or found.isfinite().all():
        return
    if all(tensor.isfinite().all() for tensor in given):
        raise InputError("sums of products overflow float16 (65,504); work in bfloat16 or float32")


def check_slot(parameter: Tensor, gradient: Tensor, mean: Tensor, square: Tensor) -> None:
    """Raises InputError where what belongs to a parameter has another shape."""
    shapes = [list(tensor.shape) for tensor in (gradient, mean, square)]
    if any(shape != list(parameter.shape) for shape in shapes):
        raise InputError(f"a parameter of shape {list(parameter.shape)} has gradient and moments of shapes {shapes}")


def _check_latents(indices: Tensor, n_rows: int) -> None:
    if indices.dtype != torch.int64:
        raise InputError(f"a code's latents are int64 numbers, got {indices.dtype}")
    if indices.numel() and indices.device.type == "cpu":
        least, most = (int(bound) for bound in indices.aminmax())
        if least < 0 or most >= n_rows:
            raise InputError(f"a code has latents {least} to {most}; the decoder has rows 0 to {n_rows - 1}")
