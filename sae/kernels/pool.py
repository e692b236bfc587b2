"""Large memory that is used again: gradients as large as a parameter, and the block that a selection works on.

1. A fresh tensor costs a page fault for every 4 kB of it, at every step. So the compiled kernels' gradients are lent to
   a backward pass and given back by the optimiser. Autograd takes a gradient over as it is where nobody else holds it:
   what is lent is forgotten here until it comes back. For a GPU torch does as much; of its gradients none is kept.
2. While gradients wait, a selection works in the memory of one of them: it is over before the next is lent.
"""

import threading

import torch
from torch import Tensor

_MOST = 2
"""Gradients of one shape that wait."""
_pool = threading.local()

Kind = tuple[torch.dtype, torch.device]


def lend(n: int, d: int, like: Tensor) -> Tensor:
    """An [n, d] tensor of any content, of the kind of `like`."""
    for number, waiting in enumerate(found := _waiting(like)):
        if waiting.shape == (n, d):
            return found.pop(number)
    return like.new_empty(n, d)


def give_back(gradient: Tensor) -> None:
    """Takes a matrix whose content nobody needs any more; one that is not on a processor is left to torch."""
    # Where others still see its memory, it is theirs.
    whole = gradient.is_contiguous() and gradient.untyped_storage().nbytes() == gradient.nbytes
    if gradient.device.type != "cpu" or gradient.ndim != 2 or not whole:
        return
    waiting = _waiting(gradient)
    if sum(other.shape == gradient.shape for other in waiting) < _MOST:
        waiting.append(gradient.detach())


def scratch(n_elements: int, like: Tensor) -> Tensor:
    """Flat memory of any content; the next call, and the next gradient that is lent, may be the same memory."""
    own: dict[Kind, Tensor] = _pool.__dict__.setdefault("own", {})
    kind = (like.dtype, like.device)
    for waiting in _waiting(like):
        if waiting.numel() >= n_elements and not waiting.is_inference():
            own.pop(kind, None)
            return waiting.view(-1)
    if kind not in own or own[kind].numel() < n_elements:
        own.pop(kind, None)  # its memory is free before there is more
        # What is born in inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            own[kind] = torch.empty(n_elements, dtype=like.dtype, device=like.device)
    return own[kind]


def clear() -> None:
    """Lets go of everything that this thread keeps."""
    _pool.__dict__.clear()


def _waiting(like: Tensor) -> list[Tensor]:
    waiting: dict[Kind, list[Tensor]] = _pool.__dict__.setdefault("waiting", {})
    return waiting.setdefault((like.dtype, like.device), [])
