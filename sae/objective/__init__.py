"""What training minimises: a sum of terms, each a member of a closed union."""

from sae.objective.auxiliary import Auxiliary, AuxK, NoAuxiliary
from sae.objective.objective import Loss, Objective

__all__ = ["AuxK", "Auxiliary", "Loss", "NoAuxiliary", "Objective"]
