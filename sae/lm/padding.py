"""Texts of unequal length in one batch, one a row, padded on the right."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sae.core.errors import InputError


class Padded(NamedTuple):
    """Texts of unequal length in one batch, padded on the right."""

    input_ids: Int[Tensor, "batch position"]
    attention_mask: Int[Tensor, "batch position"]

    def inputs(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """What to call the model with."""
        return {
            "input_ids": self.input_ids.to(device),
            "attention_mask": self.attention_mask.to(device),
            "use_cache": False,
        }


def pad(sequences: Sequence[Int[np.ndarray, "_"]], pad_id: int = 0) -> Padded:
    """Pads token ids on the right to the longest; what stands on the padding is masked and never seen.

    Raises:
        InputError: no sequences, or an empty one.
    """
    if not sequences or min(len(ids) for ids in sequences) == 0:
        raise InputError("a batch needs at least one sequence, each of at least one token")
    longest = max(len(ids) for ids in sequences)
    input_ids = np.full((len(sequences), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for row, ids in enumerate(sequences):
        input_ids[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return Padded(torch.from_numpy(input_ids), torch.from_numpy(mask))
