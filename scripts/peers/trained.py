"""The weights that every contender starts from where speed depends on them: trained by ours for a while.

A file of arrays, rows by latent: W_enc and W_dec [d_sae, d], b_enc [d_sae], b_dec [d], and threshold [d_sae] of
JumpReLU, in the units of the activations.
"""

from pathlib import Path
from typing import cast

import numpy as np
from peers.activations import Size
from torch import Tensor

from sae.dictionary import Dictionary
from sae.training import TrainConfig, initial, loop, result
from sae.training.config import Preset

PRESETS = ("relu", "jumprelu")
"""Presets whose density is what training made it."""
N_STEPS = 60
SHARE = 4
"""Batches are so many times smaller than those that are measured."""


def trained(size: Size, preset: str, x: Tensor) -> Dictionary:
    """A dictionary after `N_STEPS` steps."""
    batch = size.batch // SHARE
    config = TrainConfig(preset=cast(Preset, preset), d_sae=size.d_sae, l0=size.k, batch=batch, tokens=N_STEPS * batch)

    class Batches:
        def batch(self, step: int) -> Tensor:
            start = step * batch % len(x)
            return x[start : start + batch]

    state = initial(x[: size.batch], config)
    for _ in loop(state, Batches(), config):
        pass
    return result(state).train()


def write_weights(file: Path, dictionary: Dictionary) -> None:
    """What a peer's program reads."""
    named = {"encoder_rows": "W_enc"}
    arrays = {named.get(name, name): value.numpy() for name, value in dictionary.state_dict().items()}
    np.savez(file, **arrays)  # type: ignore[arg-type]
