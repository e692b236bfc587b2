"""Which device a process computes on."""

import os

import torch

from sae.core.errors import InputError


def device_of(name: str) -> torch.device:
    """The device of a name; `cuda` is the GPU of this process's local rank, and so is `auto` where there is one.

    Raises:
        InputError: it is no device, or not to be had here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise InputError(f"device {name!r} is not available here; try auto or cpu") from None
    if device.type == "meta":
        raise InputError("device 'meta' holds no numbers; try auto or cpu")
    return device
