"""The contract of an edit, checked at every call: same shape, dtype and device; what it was given untouched; finite.

Tensors count their changes in place, except those of `torch.inference_mode`. There an edit runs outside that mode,
without gradients, where torch itself refuses to change such a tensor; so the rule is one.

Σ y is finite where every y is (unless it overflows), so one reduction decides nearly always; only where it is not
finite are the values looked at one by one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sae.core.errors import InputError
from sae.lm.context import Context

Edit = Callable[[Tensor, Context], Tensor]
"""f(x: [batch, position, …], context) -> the same shape and dtype; x itself must not be changed in place."""


def apply(edit: Edit, x: Tensor, context: Context, finite: bool) -> Tensor:
    """What an edit makes of the activation at its site.

    Args:
        edit: the function.
        x: the activation.
        context: the pass, with the site.
        finite: refuse values that are not finite where x was; −∞ is allowed at `logits`.

    Raises:
        InputError: the edit broke the contract; names the site, and the position of a value that is not finite.
    """
    versions = _versions(x, context)
    y = _outside_inference(edit, x, context) if x.is_inference() else edit(x, context)
    if not isinstance(y, Tensor) or (y.shape, y.dtype, y.device) != (x.shape, x.dtype, x.device):
        raise InputError(f"the edit at {context.site} gave {_describe(y)}; it must give {_describe(x)}")
    if _versions(x, context) != versions:
        raise _in_place(context)
    if finite and y is not x and not torch.isfinite(y.detach().sum(dtype=torch.float32)):
        _check_finite(x, y, context)
    return y


def _versions(x: Tensor, context: Context) -> list[int]:
    return [0 if one.is_inference() else one._version for one in (x, *context.captured.values())]


def _outside_inference(edit: Edit, x: Tensor, context: Context) -> Tensor:
    # inference_mode(False) switches gradients on, and inference tensors may not be saved for them.
    with torch.inference_mode(False), torch.no_grad():
        try:
            return edit(x, context)
        except RuntimeError as error:
            if not str(error).startswith("Inplace update to inference tensor"):
                raise
            raise _in_place(context) from None


def _in_place(context: Context) -> InputError:
    return InputError(
        f"the edit at {context.site} changed its argument in place, or what was captured; it must return a new tensor"
    )


def _check_finite(x: Tensor, y: Tensor, context: Context) -> None:
    broken = y.isnan() if context.site == "logits" else ~y.isfinite()
    places = (broken & x.isfinite()).nonzero()
    if not len(places):
        return
    place = places[0].tolist()
    # attn_pattern is [batch, head, position, position]; everywhere else the position comes second.
    text, token = place[0], place[2 if context.site.endswith("attn_pattern") else 1]
    position = int(context.positions[text, token])
    value = float(y[tuple(place)])
    where = f"text {text}, position {position}" if position >= 0 else f"text {text}, padding at token {token}"
    raise InputError(f"the edit at {context.site} gave {value} at {where}; see `finite` of `editing` to allow it")


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
