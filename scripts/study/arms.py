"""What the study compares: one change each against a base, which is written out here.

The base: Adam (0.7, 0.95) at 2.8e-3 · √(min(batch, 1024) / d) with a hundredth of warm-up and a fifth of decay, AuxK of
weight 1/32 with d / 2 latents, any share of the dead ones, dead after a two-hundredth of the run and held back, random
tied rows, unit decoder rows, centred and scaled; codes of an L1 begin with a sixteenth of the latents, but three to ten
times l0, and levels follow l0 at a rate of 0.5. Every preset has the base at several rates, and what concerns it alone;
most other arms are made for `topk`. The defaults differ from it in what it showed: AuxK takes an eighth of the dead
latents at most (group *auxk share*); codes of an L1 that are not so sparse begin with l0 (group *broad*); jumprelu's
begin broad where they are very sparse, and narrow later, and its AuxK takes no more than 2 · l0 (the same group).

A base that changes takes the meaning from old rows: `sae.training` has a VERSION for that, and the rows go.
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
    """Times the base's."""
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
        said: dict[str, Any] = {"level_rate": 0.5} if self.preset in CONTROLLED else {}
        d_sae = int(bench.d_sae * self.width)
        said |= {"broad": 1.0, "narrow_fraction": 0.8} if self.preset == "jumprelu" else {}
        said |= {"broad": max(3.0, min(d_sae / (16 * bench.l0), 10.0))} if self.preset in ("relu", "gated") else {}
        said |= {
            "auxk_coefficient": 1 / 32,
            "auxk_share": 1.0,
            "warmup_fraction": 0.01,
            "beta1": 0.7,
            "beta2": 0.95,
            "decay_fraction": 0.2,
            "scale": "auto",
            "learning_rate": self.rate * 2.8e-3 * math.sqrt(min(batch, 1024) / d),
            "dead_after_tokens": max(int(tokens * self.window), 4 * batch),
            "k_aux": max(1, round(self.k_aux * d)),
        }
        return TrainConfig(
            preset=cast(Preset, self.preset),
            d_sae=d_sae,
            l0=bench.l0,
            tokens=tokens,
            batch=batch,
            seed=seed,
            **said | self.keys,
        )


RATES = (0.25, 0.5, 1.0, 2.0)
OTHER_RATES = (0.5, 1.0, 2.0)
L1S = ("relu", "gated", "jumprelu")
"""Presets whose levels follow l0; only relu and gated have an L1."""
BROADS = (1.0, 4.0, 10.0)
"""Times l0 latents that are active at first; the base has a sixteenth of the latents for an L1, 1 for a count."""


def arms() -> list[Arm]:
    """All, those that should matter most first."""
    first = [Arm("rate", "x1", preset=preset) for preset in PRESETS]
    first += [Arm("auxk share", "1/8", keys={"auxk_share": 1 / 8}, preset=preset) for preset in PRESETS]
    rates = [Arm("rate", f"x{rate:g}", rate, preset=p) for p in PRESETS for rate in _rates(p) if rate != 1]
    of_topk = [*_moments(), *_dead(), *_begin(), *_others(), *_scaling(), *_small()]
    return [*first, *rates, *of_topk, *_presets(), *_coarse()]


def _rates(preset: str) -> tuple[float, ...]:
    return RATES if preset == "topk" else OTHER_RATES


def _moments() -> list[Arm]:
    """Weights of the past in Adam's means; the usual ones with the usual warm-up, for all presets."""
    usual = {"beta1": 0.9, "beta2": 0.999, "warmup_fraction": 0.05}
    found = [Arm("moments", "0.9 and 0.999 and warm-up 0.05", 1.0, usual, preset=preset) for preset in PRESETS]
    for beta1, beta2 in ((0.9, 0.999), (0.9, 0.95), (0.5, 0.95), (0.0, 0.95), (0.7, 0.99), (0.7, 0.9)):
        found.append(Arm("moments", f"{beta1:g} and {beta2:g}", 1.0, {"beta1": beta1, "beta2": beta2}))
    found += [Arm("schedule", f"warm-up {share:g}", keys={"warmup_fraction": share}) for share in (0.0, 0.05)]
    return [*found, *(Arm("schedule", f"decay {share:g}", keys={"decay_fraction": share}) for share in (0.0, 0.5, 0.9))]


def _dead() -> list[Arm]:
    """AuxK, when a latent is dead, and whether it is held back."""
    found = [
        Arm("auxk weight", name, keys={"auxk_coefficient": weight})
        for name, weight in (("0", 0.0), ("1/8", 1 / 8), ("1/2", 1 / 2), ("2", 2.0))
    ]
    found += [
        Arm("dead after", f"{name} of the run", window=window)
        for name, window in (("1/20", 1 / 20), ("1/50", 1 / 50), ("1/500", 1 / 500))
    ]
    found += [Arm("k_aux", name, k_aux=k) for name, k in (("d/8", 1 / 8), ("2d", 2.0))]
    found += [Arm("k_aux", name, k_aux=k) for name, k in (("d/16", 1 / 16), ("d/32", 1 / 32))]
    found += [Arm("auxk share", f"1/{n}", keys={"auxk_share": 1 / n}) for n in (2, 4, 16, 32)]
    found.append(Arm("not held back", "at all", held=False))
    return [*found, Arm("not held back", "and dead after 1/20 of the run", window=1 / 20, held=False)]


def _begin() -> list[Arm]:
    return [Arm("first rows", f"activations at x{rate:g}", rate, from_data=True) for rate in OTHER_RATES]


def _others() -> list[Arm]:
    found: list[Arm] = []
    names: tuple[Optimiser, ...] = ("signum", "muon")
    for name in names:
        found += [Arm(name, f"x{rate:g}", rate, optimiser=name) for rate in (0.06, 0.12, 0.25, 0.5, 1.0, 2.0)]
    return found


def _scaling() -> list[Arm]:
    """Whether the best multiple of the base's rate stays the same for other batches, lengths and widths."""
    found = []
    for rate in OTHER_RATES:
        found += [Arm("batch", f"{batch} at x{rate:g}", rate, batch=batch) for batch in (256, 4096)]
        found += [Arm("length", f"{share:g} of it at x{rate:g}", rate, share=share) for share in (0.25, 4.0)]
        found += [Arm("width", f"{width:g} of it at x{rate:g}", rate, width=width) for width in (0.5, 4.0)]
    # AuxK as the defaults have it: it decides which of many latents die.
    eighth = {"auxk_share": 1 / 8}
    for rate in RATES:
        found.append(Arm("wide", f"4 of it at x{rate:g}", rate, eighth, width=4.0))
        found.append(Arm("wide", f"4 of it and 0.25 of the tokens at x{rate:g}", rate, eighth, width=4.0, share=0.25))
        for preset in PRESETS[1:]:
            found.append(Arm("wide", f"4 of it at x{rate:g}", rate, eighth, width=4.0, preset=preset))
    return found


def _small() -> list[Arm]:
    found = [Arm("scale", how, keys={"scale": how}) for how in ("median", "mean", "norm", "none")]
    found += [Arm("decoder rows", "free", free=True, preset=preset) for preset in ("topk", "relu")]
    eighth = {"auxk_share": 1 / 8}  # as the defaults have it
    return [*found, Arm("decoder rows", "free, AuxK with an eighth", keys=eighth, preset="relu", free=True)]


def _presets() -> list[Arm]:
    """What concerns some presets alone."""
    found = [Arm("level rate", "0.05", keys={"level_rate": 0.05}, preset=preset) for preset in L1S]
    found += [Arm("quick biases", "√d times", quick_levels=True, preset=p) for p in ("batchtopk", "matryoshka")]
    found += [Arm("broad", f"{b:g} times", keys={"broad": b}, preset=preset) for preset in L1S for b in BROADS]
    counted = {"broad": "auto", "narrow_fraction": "auto", "auxk_share": 1 / 8, "k_aux": None}  # the default
    found.append(Arm("broad", "16 latents and AuxK as the default has it", keys=counted, preset="jumprelu"))
    narrow = {"broad": "auto", "auxk_share": 1 / 8}
    found += [Arm("broad", "360 / l0 latents and AuxK as the default has it", keys=narrow, preset=p) for p in L1S[:2]]
    resampled = {"resample": True, "broad": 5.0}
    return [*found, Arm("resampled", "5 times broad", 1.0, resampled, window=1 / 20, preset="relu")]


def _coarse() -> list[Arm]:
    """Latents chosen in bfloat16, their values exact; Adam's moments kept in it."""
    coarse = {"selection": "bfloat16"}
    found = [Arm("selection", "bfloat16", 1.0, coarse, preset=p) for p in ("topk", "batchtopk", "matryoshka")]
    # Beside the group *auxk share*: as the defaults have it.
    kept = {"moments": "bfloat16", "auxk_share": 1 / 8}
    return [*found, *(Arm("kept moments", "bfloat16", keys=kept, preset=p) for p in PRESETS)]
