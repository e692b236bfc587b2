"""One sparsity knob for every architecture: λ is moved until codes are as sparse as asked.

    log λ ← log λ + g · (e + T · ė)        e = log(L0 / l0), of a running mean over about N batches

1. It starts from a λ that is small, and does nothing before the running mean has seen enough.
2. The relative error, not the absolute one, drives λ: a code twice too dense pushes as hard as one half as dense pulls.
3. Damping by the error's own change keeps λ from overshooting: L0 follows λ late, since weights must move first.
"""

import math
from typing import Annotated, Literal

from pydantic import Field

from sae.core.config import Strict


class NoController(Strict):
    """The activation reaches its l0 by itself."""

    kind: Literal["none"] = "none"

    @property
    def strength(self) -> float:
        return 0.0

    def after(self, l0: float) -> "NoController":
        """Unmoved by what a batch had."""
        return self


class L0Controller(Strict):
    """What a run knows of its sparsity; replaced at every step."""

    kind: Literal["l0"] = "l0"
    target: float = Field(gt=0)
    """Mean number of active latents a token that is asked for."""
    log_strength: float
    """log λ."""
    gain: float = Field(gt=0)
    """Change of log λ a step for a unit of log error."""
    damping: float = Field(ge=0)
    """Steps over which the error's change is looked ahead."""
    memory: float = Field(gt=0, lt=1)
    """Weight of the past in the running means."""
    l0: float = 0.0
    """Running sum of mean L0s with that memory, and of weights."""
    weight: float = 0.0
    error: float = 0.0
    """The last step's."""

    @property
    def strength(self) -> float:
        """λ."""
        return math.exp(self.log_strength)

    def after(self, l0: float) -> "L0Controller":
        """What follows from the mean L0 of one more batch."""
        total = self.memory * self.l0 + (1 - self.memory) * l0
        weight = self.memory * self.weight + (1 - self.memory)
        error = math.log(max(total / weight, 1e-3 * self.target) / self.target)
        bounded = max(-1.0, min(1.0, error))
        change = error - self.error if self.weight else 0.0
        moved = self.log_strength + self.gain * (bounded + self.damping * change)
        return self.model_copy(update={"log_strength": moved, "l0": total, "weight": weight, "error": error})


Controller = Annotated[NoController | L0Controller, Field(discriminator="kind")]
