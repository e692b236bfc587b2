"""One sparsity knob for every architecture: λ is moved until codes are as sparse as asked.

    u ← u + K · ((e + τ) / T + ė)      e = log(L0 / w), of a running mean over a few batches, between −1 and 1
    τ ← min(0, τ + e / 2T)             where e is small
    w = l0 · B^max(0, 1 − t / N)       of step t: what is wanted sinks from B · l0 to l0 in N steps

    positive    λ = s · exp(u)      an L1 that were paid for size would grow without end
    either      λ = s · sinh(u)     a count may also be paid for: thresholds sink where too few latents are active
    squared     λ = s · exp(u)      the penalty itself knows the side; u rises with |e| until the distance is small

1. The relative error, not the absolute one, drives λ: a code twice too dense pushes as hard as one half as dense pulls.
2. The error's change acts at once and the error itself over T steps: L0 follows λ late, since weights must move first,
   and a controller that only summed errors would swing about its aim.
3. Codes grow sparser by themselves as long as a dictionary learns, so λ must sink on and on. Without τ that takes an
   error that stays: L1s ended 5 to 6 % below their l0 after 390 steps on the microworld.
4. s is the λ at which a latent at the edge of firing costs what it explains (`sae.training.presets`), so that u is of
   the order of 1 at any width and l0.

Why codes begin broad (`sae.training.presets`): who hears of few tokens learns late. A latent that fires at 6 of 1,024
tokens, in a direction that is not yet anything's, has hardly a gradient beside its penalty.

Why a count needs both signs: JumpReLU's thresholds rise by themselves while the first, overlapping latents are sorted
out. With λ ≥ 0 codes stayed three times too sparse (l0 16, 400 steps: L0 5.6 with 61 % dead latents on the microworld,
5.5 on stories).
"""

import math
from typing import Annotated, Literal, assert_never

from pydantic import Field

from sae.core.config import Strict

_FURTHEST = 8.0
"""u stays within ± this, e^8 ≈ 3000 units, so that a run that cannot reach its l0 can still come back."""
_NEAR = 0.01
"""Relative distance at which the weight of a squared penalty is enough."""
_TREND_HORIZONS = 2.0
"""Horizons over which the trend follows an error. After 390 steps at l0 16 on the microworld L1s ended within .02 of
their l0 with 2, .03 too dense with 1, .03 too sparse with 4, .06 without a trend."""
_BEGIN_HORIZONS = 2.5
"""Horizons before a trend is learnt: what is on its way at first is none, and a gate's λ rises before it sinks."""
_SMALL = 0.2
"""The trend hears of errors below it, and is at most so large: what is larger is on its way, and no trend."""

_MOST_RISEN, _MOST_SUNK = 2.0, 0.5
"""How far a run shifts thresholds at most, in sizes: what has not brought L0 to l0 by then will not do it
(`sae.training.levels`)."""

Sides = Literal["positive", "either", "squared"]


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
    sides: Sides
    """What λ may be."""
    unit: float = Field(gt=0)
    """s."""
    u: float = 0.0
    """λ in units of s, on a scale that is logarithmic where λ is large."""
    gain: float = Field(gt=0)
    """K: change of u for a unit of error."""
    horizon: float = Field(gt=0)
    """T, steps after which an error that stays has acted as much again as when it came."""
    memory: float = Field(gt=0, lt=1)
    """Weight of the past in the running means."""
    broad: float = Field(default=1.0, ge=1)
    """B: times the target that are wanted at first."""
    narrowing: float = Field(default=0.0, ge=0)
    """N: steps until the target is wanted."""
    level: float = Field(ge=0)
    """ρ, the shift of biases or thresholds for a unit of error, in sizes (`sae.training.levels`)."""
    size: float = Field(gt=0)
    """Of an active latent, √(d / l0)."""
    shifted: float = 0.0
    """How far thresholds rose by that so far, in sizes."""
    l0: float = 0.0
    """Running sum of mean L0s with that memory, and of weights."""
    weight: float = 0.0
    error: float = 0.0
    """The last step's."""
    trend: float = 0.0
    """τ."""
    n_steps: int = 0
    """Batches seen."""

    @property
    def strength(self) -> float:
        """λ."""
        return self.unit * (math.sinh(self.u) if self.sides == "either" else math.exp(self.u))

    def shift(self, r: float) -> float:
        """How far thresholds should rise now, in sizes, where r of what is missing is asked for."""
        return max(-_MOST_SUNK, min(_MOST_RISEN, self.shifted + r * self.level * self.error)) - self.shifted

    @property
    def wanted(self) -> float:
        """w, active latents a token, of the next batch."""
        left = max(0.0, 1 - self.n_steps / self.narrowing) if self.narrowing else 0.0
        return self.target * self.broad**left

    def after(self, l0: float) -> "L0Controller":
        """What follows from the mean L0 of one more batch."""
        total = self.memory * self.l0 + (1 - self.memory) * l0
        weight = self.memory * self.weight + (1 - self.memory)
        error = max(-1.0, min(1.0, math.log(max(total / weight, 1e-3 * self.wanted) / self.wanted)))
        u = max(-_FURTHEST, min(_FURTHEST, self.u + self._push(error)))
        began = self.n_steps > _BEGIN_HORIZONS * self.horizon
        held = error if began and abs(error) < _SMALL else 0.0
        trend = max(-_SMALL, min(0.0, self.trend + held / (_TREND_HORIZONS * self.horizon)))
        return self.model_copy(
            update={"u": u, "l0": total, "weight": weight, "error": error, "trend": trend, "n_steps": self.n_steps + 1}
        )

    def _push(self, error: float) -> float:
        match self.sides:
            case "positive" | "either":
                change = error - self.error if self.weight else 0.0
                return self.gain * ((error + self.trend) / self.horizon + change)
            case "squared":
                return self.gain * (abs(error) - _NEAR) / self.horizon
            case _:
                assert_never(self.sides)


Controller = Annotated[NoController | L0Controller, Field(discriminator="kind")]
