"""What training minimises: a sum of terms, each a member of a closed union."""

from sae.objective.auxiliary import Auxiliary, AuxK, Dead, NoAuxiliary
from sae.objective.gate import GateReconstruction, NoGate
from sae.objective.objective import Loss, Objective, Situation
from sae.objective.reconstruction import MeanSquare, MultiTopK, Nested, RandomPrefixes
from sae.objective.sparsity import NoPenalty, StepL0, Tanh, TargetL0, WeightedL1

__all__ = [
    "AuxK",
    "Auxiliary",
    "Dead",
    "GateReconstruction",
    "Loss",
    "MeanSquare",
    "MultiTopK",
    "Nested",
    "NoAuxiliary",
    "NoGate",
    "NoPenalty",
    "Objective",
    "RandomPrefixes",
    "Situation",
    "StepL0",
    "Tanh",
    "TargetL0",
    "WeightedL1",
]
