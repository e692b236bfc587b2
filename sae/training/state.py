"""Everything that a run is at a step; a checkpoint holds exactly this.

Random numbers are drawn from streams named by seed and step, and batches are found by their step, so that a state
needs neither generators nor a reading position beside its step.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.core.errors import InputError
from sae.dictionary import Dictionary
from sae.dictionary.scale import fold
from sae.training.config import TrainConfig
from sae.training.initialise import Start, initial_dictionary, start_of
from sae.training.optimiser import adam


@dataclass
class State:
    """A run at a step; `loop` moves it on in place."""

    dictionary: Dictionary
    """In scaled units; `result` gives the one in the units of the model."""
    optimiser: torch.optim.Adam
    scale: float
    """Activations are multiplied by it before they are encoded."""
    tokens_since_fired: Int64[Tensor, "d_sae"]
    step: int = 0
    """Steps done."""
    n_tokens: int = 0
    """Tokens seen."""


def initial(
    sample: Float[Tensor, "token d"], config: TrainConfig, site: str | None = None, model: str | None = None
) -> State:
    """The state before the first step.

    Args:
        sample: activations of the train split from which scale and centre are taken; some thousands of tokens;
            the run stays on its device.
        config: the run.
        site: place in the model, kept in the dictionary's configuration.
        model: its fingerprint, likewise.

    Raises:
        InputError: fewer than two tokens, or activations that are not finite or all equal.
    """
    return begun(start(sample, config), config, site, model)


def start(sample: Float[Tensor, "token d"], config: TrainConfig) -> Start:
    """What a run starts from; raises as `initial` does."""
    if len(sample) < 2:
        raise InputError(f"training needs a sample of at least two tokens, got {len(sample)}")
    return start_of(sample.float(), config.scale)


def begun(start: Start, config: TrainConfig, site: str | None = None, model: str | None = None) -> State:
    """The state before the first step, from what it starts from."""
    sizes = config.dictionary(len(start.b_dec), site, model)
    dictionary = initial_dictionary(sizes, start.b_dec, config.seed or 0)
    counters = torch.zeros(config.d_sae, dtype=torch.int64, device=start.b_dec.device)
    return State(dictionary, adam(dictionary), start.scale, counters)


def result(state: State) -> Dictionary:
    """The dictionary of a state in the units of the model: the input scale folded in."""
    return fold(state.dictionary, state.scale)


def untrained(
    sample: Float[Tensor, "token d"], config: TrainConfig, site: str | None = None, model: str | None = None
) -> Dictionary:
    """What the run started from, in the units of the model: the control for what training adds."""
    return result(initial(sample, config, site, model))
