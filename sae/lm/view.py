"""How a site lies in the tensor that a module reads or gives: as it is, as some of its heads, with its batch flattened.

A view has two directions: from the tensor to the site, and from a changed site back into the tensor, which leaves
everything outside the site as it was.
"""

from dataclasses import dataclass
from typing import assert_never

from torch import Tensor


@dataclass(frozen=True)
class Whole:
    """The tensor itself."""


@dataclass(frozen=True)
class Heads:
    """Some of the heads that lie side by side in the last dimension, as [batch, position, head, d_head]."""

    n: int
    """Heads side by side."""
    chosen: slice
    """Those of the site."""


@dataclass(frozen=True)
class Alias:
    """The tensor by another name: what reads it here is one of several that read it, and only that one is meant."""


@dataclass(frozen=True)
class Flat:
    """Batch and position in one dimension, or already apart."""

    n_batch: int = 1


View = Whole | Heads | Alias | Flat


def seen(view: View, x: Tensor) -> Tensor:
    """The site in the tensor."""
    match view:
        case Whole():
            return x
        case Heads(n=n, chosen=chosen):
            return x.unflatten(-1, (n, -1))[..., chosen, :]
        case Alias():
            return x.view_as(x)
        case Flat(n_batch=n_batch):
            return x.view(n_batch, -1, x.shape[-1])
        case _:
            assert_never(view)


def put_back(view: View, x: Tensor, y: Tensor) -> Tensor:
    """The tensor with the site replaced by y."""
    match view:
        case Whole() | Alias():
            return y
        case Heads(chosen=chosen) if chosen == slice(None):
            return y.flatten(-2)
        case Heads(n=n, chosen=chosen):
            heads = x.unflatten(-1, (n, -1)).clone()
            heads[..., chosen, :] = y
            return heads.flatten(-2)
        case Flat():
            return y.reshape(x.shape)
        case _:
            assert_never(view)
