"""Training: a state, the step that moves it, the loop that yields, the checkpoint that brings it back."""

from sae.training import checkpoint
from sae.training.config import TrainConfig
from sae.training.history import cut_back
from sae.training.loop import Batches, Progress, loop
from sae.training.state import State, begun, initial, result, start, untrained

__all__ = [
    "Batches",
    "Progress",
    "State",
    "TrainConfig",
    "begun",
    "checkpoint",
    "cut_back",
    "initial",
    "loop",
    "result",
    "start",
    "untrained",
]
