"""State divided along latents: rank r of n has the latents ⌊r·d/n⌋ to ⌊(r + 1)·d/n⌋ − 1 of d.

A tensor of the state has its latents in one dimension (rows of the encoder, counters of dead latents), or in none and
is the same on every rank (the decoder's bias, a step).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]
Along = Mapping[str, int]
"""Name of a tensor to the dimension of its latents; a name that is not there: no latents, the same everywhere."""


def share(d_sae: int, rank: int, n: int) -> slice:
    """The latents of rank `rank` of `n`."""
    assert 0 <= rank < n
    return slice(rank * d_sae // n, (rank + 1) * d_sae // n)


def split(state: State, along: Along, rank: int, n: int) -> dict[str, Tensor]:
    """One rank's part of a state; views of its tensors."""
    return {
        name: tensor.narrow(along[name], *_start_and_length(share(tensor.shape[along[name]], rank, n)))
        if name in along
        else tensor
        for name, tensor in state.items()
    }


def join(parts: Sequence[State], along: Along) -> dict[str, Tensor]:
    """The state whose parts these are, in the order of ranks."""
    first = parts[0]
    assert all(part.keys() == first.keys() for part in parts)
    alike = first.keys() - along.keys()
    assert all(torch.equal(part[name], first[name]) for part in parts for name in alike), "ranks differ"
    return {
        name: torch.cat([part[name] for part in parts], along[name]) if name in along else tensor
        for name, tensor in first.items()
    }


def _start_and_length(latents: slice) -> tuple[int, int]:
    return latents.start, latents.stop - latents.start
