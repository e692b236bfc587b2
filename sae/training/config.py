"""Every knob of a training run, with its unit and source; defaults live only here.

What a preset makes of them is `sae.training.presets`.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from sae.core.config import EXECUTION, Strict
from sae.training.initialise import Scale
from sae.training.schedule import FALL, Schedule, automatic_rate, calmed, crowded, fall

Preset = Literal[
    "topk",
    "batchtopk",
    "matryoshka",
    "relu",
    "jumprelu",
    "gated",
    "matching_pursuit",
    "transcoder",
    "crosscoder",
    "pca",
    "random",
    "identity",
]
CONTROLS: tuple[Preset, ...] = ("pca", "random", "identity")
"""Presets that are computed from a sample, not trained."""
CONTROLLED: tuple[Preset, ...] = ("relu", "jumprelu", "gated", "crosscoder")
"""Presets whose l0 a controller reaches by moving the penalty's strength."""
UNCROWDED: tuple[Preset, ...] = ("relu", "crosscoder")
"""Presets of which many latents bear the whole rate (measured: `sae.training.schedule`; crosscoder by analogy)."""
ON_AVERAGE: tuple[Preset, ...] = (*CONTROLLED, "batchtopk", "matryoshka")
"""Presets whose codes have l0 latents on average, and not at most."""
_BELONGS: dict[str, tuple[Preset, ...]] = {
    "multi_topk": ("topk", "transcoder"),
    "multi_topk_factor": ("topk", "transcoder"),
    "multi_topk_weight": ("topk", "transcoder"),
    "threshold_rate": ("batchtopk", "matryoshka"),
    "prefixes": ("matryoshka",),
    "n_prefixes": ("matryoshka",),
    "prefix_power": ("matryoshka",),
    "penalty": ("jumprelu",),
    "bandwidth": ("jumprelu",),
    "tanh_scale": ("jumprelu",),
    "controller_gain": CONTROLLED,
    "controller_horizon": CONTROLLED,
    "controller_memory": CONTROLLED,
    "level_rate": CONTROLLED,
    "broad": CONTROLLED,
    "narrow_fraction": CONTROLLED,
    "skip": ("transcoder",),
    "target": ("transcoder",),
}
"""Keys that only some presets have."""


class TrainConfig(Strict):
    """A dictionary and how it is trained."""

    preset: Preset = "topk"
    """The architecture and its loss: topk, batchtopk, matryoshka, relu, jumprelu, gated, matching_pursuit, transcoder,
    crosscoder; or a control that is not trained: pca, random, identity."""
    site: str | None = None
    """The harvested site to train on; may be left out where there is one, and for a crosscoder, which takes all."""
    target: str | None = None
    """transcoder: the harvested site that it writes."""
    d_sae: PositiveInt = 1024
    """Number of latents."""
    l0: PositiveInt = 16
    """Mean number of active latents a token: the one sparsity knob, whatever the preset. topk, transcoder and
    matching_pursuit keep so many at most, as negative pre-activations are dropped; the others come within 5 % on
    validation if a run has some hundred steps, and sae train says where one does not."""
    tokens: PositiveInt = 4_000_000
    """Tokens to train on; more than the harvest holds means several epochs."""
    batch: PositiveInt = 1024
    """Tokens a step; in runs of a few million tokens 1024 reaches with a quarter of the tokens what 4096 reaches."""
    accumulate: PositiveInt = 1
    """Micro-batches that a batch is divided into, one after the other, to save memory. The same result for losses that
    are means over tokens; BatchTopK's selection, AuxK and the quadratic penalty are of each micro-batch."""
    scale: Scale = "auto"
    """What becomes of activations before training; folded into the weights. auto: centred at the geometric median,
    times what makes the mean square norm d, both of rows that are no sinks; median, mean: centred there, of all rows;
    norm: mean square norm d, not centred; none: as they are."""
    learning_rate: PositiveFloat | Literal["auto"] = "auto"
    """Adam's rate at its plateau; auto: 2.8e-3 · √(batch / d), of at most 1,024 tokens, and of at most 1,024 · 1000 ·
    batch · max(1, d / 128) / (d_sae · steps) but for relu and crosscoder; jumprelu takes √(steps / 1000) of it
    where that is less (measured for runs of 1–10 million tokens: `sae.training.schedule`)."""
    warmup_fraction: float = Field(default=0.01, ge=0, le=1)
    """Share of the steps in which the rate rises linearly from zero (measured: `sae.training.schedule`)."""
    decay_fraction: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    """Share of the steps, at the end, in which the rate falls linearly to zero (SAEBench: the last fifth); auto: a
    fifth, and up to a half where many latents have many steps, the smaller of steps / 2500 and, in batches of 1,024 or
    more, d_sae · steps / (5000 · batch), but for relu, gated, crosscoder and jumprelu; what warm-up
    leaves at most (measured: `sae.training.schedule`)."""
    multi_topk: bool = False
    """topk, transcoder: the error of a code with more latents is added (Gao et al. 2024, "Multi-TopK")."""
    multi_topk_factor: int = Field(default=4, ge=2)
    """Times l0 latents in that code (Gao et al. 2024: 4)."""
    multi_topk_weight: PositiveFloat = 1 / 8
    """Of that code's error, beside weight 1 of the code's own (Gao et al. 2024: 1/8)."""
    threshold_rate: float = Field(default=0.1, gt=0, le=1)
    """batchtopk, matryoshka: share of the threshold that a step's smallest selected value replaces; ours, for runs of
    some hundred steps."""
    prefixes: tuple[PositiveFloat, ...] | Literal["random"] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    """matryoshka: nested prefixes as shares of d_sae, rising to 1 (ours: doubling), or drawn anew at every step."""
    n_prefixes: PositiveInt = 10
    """matryoshka: how many random prefixes a step, the whole included (saev: 10)."""
    prefix_power: float = Field(default=0.5, ge=0)
    """matryoshka: a random prefix of m latents is drawn with a probability that falls as m^−(1 + prefix_power)
    (saev: 0.5)."""
    penalty: Literal["step", "quadratic", "tanh"] = "step"
    """jumprelu: the count of active latents, its squared distance from l0, or Σ tanh(c z ‖w‖)."""
    tanh_scale: PositiveFloat = 4.0
    """jumprelu: that c, per scaled unit of activation (Conerly et al. 2025: 4)."""
    bandwidth: PositiveFloat | Literal["auto"] = "auto"
    """jumprelu: width of the rectangle that gives thresholds a gradient, where activations have root mean square 1 in
    each dimension (Conerly et al. 2025: 2); auto: √(d / l0), the size of an active latent (measured:
    `sae.training.presets`)."""
    skip: bool = False
    """transcoder: a linear map of the input is added to what is decoded (Paulo et al. 2025, arXiv:2501.18823)."""
    auxk_coefficient: float = Field(default=1 / 32, ge=0)
    """Weight of the error that dead latents leave of the residual, relative to its variance (Gao et al. 2024)."""
    k_aux: PositiveInt | None = None
    """Dead latents that predict the residual of a token; left out: half the width of the activations (Gao et
    al. 2024), with jumprelu at most 2 · l0 (measured: `sae.training.presets`)."""
    auxk_share: float = Field(default=1 / 8, gt=0, le=1)
    """At most this share of the dead latents does so, that their code is sparse too (measured:
    `sae.objective.auxiliary`; Gao et al. 2024: all)."""
    dead_after_tokens: PositiveInt | Literal["auto"] = "auto"
    """A latent that has not fired for so many tokens is dead; auto: a two-hundredth of the run, a
    twentieth where dead latents are resampled (measured for runs of 1–10 million tokens; Gao et al. 2024: 10
    million)."""
    resample: bool = False
    """Whether dead latents begin anew in the first half of a run (Bricken et al. 2023), instead of learning by AuxK."""
    resample_times: PositiveInt = 4
    """How often, at equal distances (Bricken et al. 2023: four times)."""
    resample_size: PositiveFloat = 0.2
    """Norm of a new encoder row, relative to the mean norm of living ones (Bricken et al. 2023: 0.2)."""
    controller_gain: PositiveFloat | Literal["auto"] = "auto"
    """relu, gated, crosscoder, jumprelu: change of log λ for a relative error of l0; auto: 3 for an L1, 2 for a count
    (measured: `sae.training.presets`)."""
    controller_horizon: PositiveFloat | Literal["auto"] = "auto"
    """The same: steps in which an error that stays acts once more; auto: a share of the run, 0.15 for an L1 and 0.2 for
    a count, at most 500 (measured)."""
    controller_memory: float = Field(default=0.5, gt=0, lt=1)
    """The same: weight of the past in the running mean of l0 that it reads, a step; 0.5 is about two batches (measured:
    at 0.8 l0 swung by a fifth)."""
    broad: Annotated[float, Field(ge=1)] | Literal["auto"] = "auto"
    """The same: times l0 latents are active at first, at most half of them, and fewer from step to step, until l0 is
    reached; auto: a sixteenth of the latents, at most 10 times l0 and 360 / l0, for an L1; a 64th, at most 16, for a
    count; l0 at least (measured: `sae.training.presets`; models' codes want 1). 1 with `start_from` and with penalty
    quadratic."""
    narrow_fraction: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    """The same: share of the steps after which l0 is reached; auto: 0.8 for an L1, 0.95 for a count (measured as well).
    """
    level_rate: float = Field(default=0.5, ge=0, le=1)
    """The same: while the rate falls, a step shifts biases or thresholds by this share of what is missing to l0
    (measured: `sae.training.levels`)."""
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient of all parameters, loss per dimension in scaled units (SAELens, SAEBench: 1)."""
    beta1: float = Field(default=0.7, ge=0, lt=1)
    """Adam's weight of the past in the mean gradient, a step (measured: `sae.training.schedule`; Kingma and Ba 2015:
    0.9)."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Adam's weight of the past in the mean squared gradient, a step (measured there; Kingma and Ba 2015: 0.999)."""
    epsilon: PositiveFloat = 1e-8
    """What Adam adds to the root of the mean squared gradient, in its units (Kingma and Ba 2015: 1e-8)."""
    moments: Literal["float32", "bfloat16"] = "float32"
    """What Adam keeps its two moments in; bfloat16, rounded by chance so that nothing is lost on average, spares 4
    bytes a parameter."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products of the loss; weights, optimiser and sums stay in float32."""
    selection: Literal["auto", "as_precision", "float32", "bfloat16"] = "auto"
    """Of the encoder's product where it only chooses latents; the values of those chosen are then computed in float32.
    auto: bfloat16 for topk and batchtopk where the device has instructions for it (a GPU, AVX512-BF16, AMX), else as
    `precision`."""
    start_from: Annotated[str | None, EXECUTION] = None
    """Folder of a dictionary to go on from, with fresh optimiser; hashed by its content."""
    beside: Annotated[str | None, EXECUTION] = None
    """crosscoder: the folder of a second harvest, of another model with the same tokenizer on the same text."""
    end_to_end: Literal["none", "kl", "ce"] = "none"
    """What the model loses with the dictionary spliced in is added: its divergence from the model as it is, or its
    cross-entropy (Braun et al. 2024, arXiv:2405.12241)."""
    end_to_end_weight: PositiveFloat = 1.0
    """Of that loss in nats a token (ours)."""
    end_to_end_windows: PositiveInt = 4
    """Windows of text a step that it is measured on (ours, for memory)."""
    seed: int | None = None
    """Seed of the initial weights; left out: the experiment's."""
    data_seed: int | None = None
    """Seed of the order of the data; left out: the experiment's."""
    device: Annotated[str, EXECUTION] = "cpu"
    """Where it is trained: cpu or cuda, under torchrun the GPU of the local rank (not measured on one yet)."""
    checkpoint_every_tokens: Annotated[PositiveInt, EXECUTION] = 1_000_000
    """Tokens between checkpoints."""
    log_every_steps: Annotated[PositiveInt, EXECUTION] = 20
    """Steps between records in metrics.jsonl."""
    sweep: dict[str, list[Any]] = Field(default_factory=dict)
    """Keys of this section to the values to train with, every combination: {l0: [16, 32], seed: [0, 1]}."""

    keep_checkpoints: Annotated[PositiveInt, EXECUTION] = 2
    """Newest checkpoints that stay while a run goes on; a damaged one falls back to the one before."""
    milestone_every_tokens: Annotated[PositiveInt | None, EXECUTION] = None
    """Tokens between checkpoints that stay for good, under checkpoints/ of the dictionary; left out: none do."""
    validate_every_tokens: Annotated[PositiveInt, EXECUTION] = 1_000_000
    """Tokens between evaluations on a fixed sample of the validation split, logged as validation_*."""
    wandb: Annotated[Literal["off", "offline", "online"], EXECUTION] = "off"
    """A second log beside metrics.jsonl, with Weights & Biases; needs the package wandb."""

    @model_validator(mode="after")
    def _possible(self) -> "TrainConfig":
        if self.l0 > self.d_sae:
            raise ValueError(f"l0 {self.l0} is larger than d_sae {self.d_sae}: there are not so many latents")
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate {self.accumulate} is larger than batch {self.batch}: nothing to divide")
        if self.decay_fraction != "auto" and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError("warmup_fraction and decay_fraction add up to more than 1")
        for key, presets in _BELONGS.items():
            if getattr(self, key) != type(self).model_fields[key].default and self.preset not in presets:
                raise ValueError(f"{key} belongs to preset {' and '.join(presets)}, not to {self.preset}")
        if self.beside is not None and self.preset != "crosscoder":
            raise ValueError(f"beside belongs to preset crosscoder, not to {self.preset}")
        if isinstance(self.prefixes, tuple) and not _rises_to_one(self.prefixes):
            raise ValueError(f"prefixes {list(self.prefixes)} must rise to 1")
        if self.resample and self.preset in ("transcoder", "matching_pursuit", *CONTROLS):
            raise ValueError(f"resample begins an encoder anew from what it should write; not for {self.preset}")
        if self.preset in CONTROLS and self.start_from is not None:
            raise ValueError(f"{self.preset} is not trained; it starts from nothing")
        return self

    @property
    def n_steps(self) -> int:
        """Whole batches in `tokens`, at least one; none for a control."""
        return 0 if self.preset in CONTROLS else max(1, self.tokens // self.batch)

    def schedule(self, d: int) -> Schedule:
        """The learning rate of every step, for activations of width d."""
        automatic, falling = automatic_rate(d, self.batch), FALL
        if self.preset not in UNCROWDED:
            automatic *= crowded(self.d_sae, d, self.batch, self.n_steps)
        if self.preset not in CONTROLLED:
            falling = fall(self.d_sae, self.batch, self.n_steps)
        if self.preset == "jumprelu":
            automatic *= calmed(self.n_steps)
        peak = automatic if self.learning_rate == "auto" else self.learning_rate
        decay = min(falling, 1 - self.warmup_fraction) if self.decay_fraction == "auto" else self.decay_fraction
        return Schedule(peak, self.n_steps, self.warmup_fraction, decay)


def _rises_to_one(prefixes: tuple[float, ...]) -> bool:
    return all(a < b for a, b in pairwise(prefixes)) and prefixes[-1:] == (1.0,)
