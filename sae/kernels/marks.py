"""Where a mask is set. A GPU that has to say how many places there are makes the host wait for all it was given."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def places(marks: Bool[Tensor, "n"], n_set: int | None = None) -> Int64[Tensor, "n_set"]:
    """The places that are set, ascending.

    Args:
        marks: a mask.
        n_set: how many of it are set, where that is known: then no GPU is asked.
    """
    if n_set is None or marks.device.type == "cpu":
        return marks.nonzero().flatten()
    return sought(marks, n_set)


def sought(marks: Bool[Tensor, "n"], n_set: int) -> Int64[Tensor, "n_set"]:
    """The same by looking for the first place up to which 1, 2, … are set."""
    return torch.searchsorted(marks.cumsum(0), torch.arange(1, n_set + 1, device=marks.device))
