"""Training: a state, the step that moves it, the loop that yields, the checkpoint that brings it back."""

from sae.training import checkpoint
from sae.training.config import TrainConfig
from sae.training.history import cut_back
from sae.training.loop import Batches, Progress, loop
from sae.training.places import Places, one_site
from sae.training.side_by_side import Failed, Moved, OnePass, Run, side_by_side
from sae.training.state import State, begun, initial, result, starts, untrained
from sae.training.validation import validation_scores

__all__ = [
    "Batches",
    "Failed",
    "Moved",
    "OnePass",
    "Places",
    "Progress",
    "Run",
    "State",
    "TrainConfig",
    "begun",
    "checkpoint",
    "cut_back",
    "initial",
    "loop",
    "one_site",
    "result",
    "side_by_side",
    "starts",
    "untrained",
    "validation_scores",
]
