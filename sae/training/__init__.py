"""Training: a state, the step that moves it, the loop that yields, the checkpoint that brings it back."""

from sae.training.config import TrainConfig
from sae.training.loop import Batches, Progress, loop
from sae.training.state import State, initial, result, untrained

__all__ = ["Batches", "Progress", "State", "TrainConfig", "initial", "loop", "result", "untrained"]
