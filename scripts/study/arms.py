"""What the study compares: one change each against a base that never changes, so that old rows keep their meaning.

The base: TopK, Adam (0.9, 0.999) at 7e-4 · √(batch / d) with 5 % of warm-up and 20 % of decay, AuxK of weight 1/32 with
d / 2 latents, dead after a two-hundredth of the run and held back, random tied rows, unit decoder rows, centred and
scaled.
Arms of the group *rate* are made for every preset, most others for `topk`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from study.data import Bench

from sae.training import TrainConfig
from sae.training.config import Preset
from sae.training.presets import CONTROLLED

PRESETS = ("topk", "batchtopk", "matryoshka", "relu", "jumprelu", "gated")
Optimiser = Literal["adam", "signum", "muon"]


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    group: str
    name: str
    rate: float = 1.0
    """Times 7e-4 · √(batch / d)."""
    keys: dict[str, Any] = field(default_factory=dict)
    """Of `TrainConfig`."""
    window: float = 1 / 200
    """Share of the run without firing after which a latent is dead."""
    k_aux: float = 1 / 2
    """Times d."""
    batch: int = 0
    """Where it is not the bench's."""
    share: float = 1.0
    """Of the bench's tokens."""
    width: float = 1.0
    """Times the bench's latents."""
    optimiser: Optimiser = "adam"
    from_data: bool = False
    """Rows start as centred activations."""
    free: bool | None = None
    """Whether decoder rows keep any norm; none: as the preset has it."""
    held: bool = True
    """Whether dead latents are held back (`sae.training.dead`), where there is AuxK."""
    quick_levels: bool = False
    """Whether biases move √d times as far."""
    preset: str = "topk"

    @property
    def key(self) -> str:
        return f"{self.preset}/{self.group}/{self.name}"

    def config(self, bench: Bench, d: int, seed: int) -> TrainConfig:
        """The run on a bench's activations, of width d."""
        batch, tokens = self.batch or bench.batch, int(bench.tokens * self.share)
        said: dict[str, Any] = {"level_rate": 0.05} if self.preset in CONTROLLED else {}
        said |= {
            "auxk_coefficient": 1 / 32,
            "warmup_fraction": 0.05,
            "beta1": 0.9,
            "beta2": 0.999,
            "decay_fraction": 0.2,
            "scale": "auto",
            "learning_rate": self.rate * 7e-4 * math.sqrt(batch / d),
            "dead_after_tokens": max(int(tokens * self.window), 4 * batch),
            "k_aux": max(1, round(self.k_aux * d)),
        }
        return TrainConfig(
            preset=cast(Preset, self.preset),
            d_sae=int(bench.d_sae * self.width),
            l0=bench.l0,
            tokens=tokens,
            batch=batch,
            seed=seed,
            **said | self.keys,
        )


RATES = (0.5, 1.0, 2.0, 4.0, 8.0)
BROADS = (1.0, 4.0, 10.0)
"""Times l0 latents that are active at first; the base has a sixteenth of the latents for an L1, 1 for a count."""


def arms() -> list[Arm]:
    """All, those that should matter most first."""
    first = [*_rates("topk"), *_moments(), *_before(), *_presets(), *_dead(), *_begin(), *_others()]
    return [*first, *_scaling(), *_small(), *_coarse()]


def _rates(preset: str) -> list[Arm]:
    return [Arm("rate", f"x{factor:g}", factor, preset=preset) for factor in RATES]


def _moments() -> list[Arm]:
    """Weights of the past in Adam's means, after a warm-up of a hundredth of the run, at the rate that is the default:
    twice the base's in batches of 4,096, four times in batches of 1,024; and levels that are ten times as quick."""
    found = []
    for beta1, beta2 in ((0.7, 0.95), (0.9, 0.95), (0.5, 0.95), (0.7, 0.99)):
        keys = {"beta1": beta1, "beta2": beta2, "warmup_fraction": 0.01}
        found += [Arm("moments", f"{beta1:g} and {beta2:g} at x4", 4.0, keys, preset=preset) for preset in PRESETS]
        levels = keys | {"level_rate": 0.5}
        name = f"{beta1:g} and {beta2:g} and levels at x4"
        found += [Arm("moments", name, 4.0, levels, preset=preset) for preset in ("relu", "gated", "jumprelu")]
        found.append(Arm("moments", f"{beta1:g} and {beta2:g} at x2", 2.0, keys))
    return found


def _before() -> list[Arm]:
    """What the base has and earlier versions had not, at several rates."""
    late = [Arm("as before", f"x{r:g}", r, window=1 / 20, held=False) for r in (1.0, 2.0, 4.0)]
    return [*late, *(Arm("not held back", f"x{rate:g}", rate, held=False) for rate in (1.0, 2.0, 4.0))]


def _presets() -> list[Arm]:
    found = [arm for preset in PRESETS[1:] for arm in _rates(preset)]
    for preset in ("batchtopk", "matryoshka"):
        found += [Arm("quick biases", f"x{rate:g}", rate, quick_levels=True, preset=preset) for rate in (2.0, 4.0)]
    for preset in ("relu", "gated", "jumprelu"):
        for r in (4.0, 1.0):
            found += [Arm("broad", f"{b:g} times at x{r:g}", r, {"broad": b}, preset=preset) for b in BROADS]
    resampled = {"resample": True, "broad": 5.0}
    found.append(Arm("resampled", "5 times broad at x4", 4.0, resampled, window=1 / 20, preset="relu"))
    return found


def _dead() -> list[Arm]:
    """AuxK and when a latent is dead, at twice the base's rate."""
    found = [
        Arm("auxk weight", name, 2.0, {"auxk_coefficient": weight})
        for name, weight in (("0", 0.0), ("1/8", 1 / 8), ("1/2", 1 / 2), ("2", 2.0))
    ]
    found += [
        Arm("dead after", f"{name} of the run", 2.0, window=window)
        for name, window in (("1/20", 1 / 20), ("1/50", 1 / 50), ("1/500", 1 / 500))
    ]
    return [*found, *(Arm("k_aux", name, 2.0, k_aux=k) for name, k in (("d/8", 1 / 8), ("2d", 2.0)))]


def _begin() -> list[Arm]:
    return [Arm("first rows", f"activations at x{rate:g}", rate, from_data=True) for rate in (1.0, 2.0, 4.0)]


def _others() -> list[Arm]:
    found: list[Arm] = []
    names: tuple[Optimiser, ...] = ("signum", "muon")
    for name in names:
        found += [Arm(name, f"x{rate:g}", rate, optimiser=name) for rate in (0.25, 0.5, 1.0, 2.0, 4.0)]
    return found


def _scaling() -> list[Arm]:
    """Whether the best multiple of the base's rate stays the same for other batches, lengths and widths."""
    found = []
    for rate in (1.0, 2.0, 4.0):
        found += [Arm("batch", f"{batch} at x{rate:g}", rate, batch=batch) for batch in (256, 4096)]
        found += [Arm("length", f"{share:g} of it at x{rate:g}", rate, share=share) for share in (0.25, 4.0)]
        found += [Arm("width", f"{width:g} of it at x{rate:g}", rate, width=width) for width in (0.5, 4.0)]
    return found


def _small() -> list[Arm]:
    found = [Arm("scale", how, keys={"scale": how}) for how in ("median", "mean", "norm", "none")]
    found += [Arm("decoder rows", f"free at x{rate:g}", rate, free=True) for rate in (1.0, 4.0)]
    found += [Arm("decoder rows", "unit", preset="relu", free=False)]
    found += [Arm("schedule", f"decay {share:g}", keys={"decay_fraction": share}) for share in (0.0, 0.5, 0.9)]
    found += [Arm("schedule", f"warm-up {share:g}", keys={"warmup_fraction": share}) for share in (0.0, 0.1)]
    found += [Arm("adam", f"beta1 {beta:g}", keys={"beta1": beta}) for beta in (0.0, 0.95)]
    found += [Arm("adam", f"beta2 {beta:g}", keys={"beta2": beta}) for beta in (0.99, 0.9999)]
    return found


def _coarse() -> list[Arm]:
    """Latents chosen in bfloat16, their values exact."""
    coarse = {"selection": "bfloat16"}
    return [Arm("selection", "bfloat16 at x4", 4.0, coarse, preset=p) for p in ("topk", "batchtopk", "matryoshka")]
