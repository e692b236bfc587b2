"""Every knob of a training run, with its unit and source; defaults live only here."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from sae.core.config import EXECUTION, Strict
from sae.dictionary import DictionaryConfig, TopK
from sae.objective import AuxK, NoAuxiliary, Objective
from sae.training.initialise import Scale
from sae.training.schedule import Schedule, automatic_rate


class TrainConfig(Strict):
    """A dictionary and how it is trained."""

    preset: Literal["topk"] = "topk"
    """The architecture: topk (Gao et al. 2024, arXiv:2406.04093)."""
    site: str | None = None
    """The harvested site to train on; may be left out where there is only one."""
    d_sae: PositiveInt = 1024
    """Number of latents."""
    l0: PositiveInt = 16
    """Mean number of active latents a token: the one sparsity knob, whatever the preset."""
    tokens: PositiveInt = 4_000_000
    """Tokens to train on; more than the harvest holds means several epochs."""
    batch: PositiveInt = 1024
    """Tokens a step; in runs of a few million tokens 1024 reaches with a quarter of the tokens what 4096 reaches."""
    scale: Scale = "auto"
    """What becomes of activations before training; folded into the weights. auto: centred at the geometric median,
    times what makes the mean square norm d, both of rows that are no sinks; median, mean: centred there, of all rows;
    norm: mean square norm d, not centred; none: as they are."""
    learning_rate: PositiveFloat | Literal["auto"] = "auto"
    """Adam's rate at its plateau; auto: 7e-4 · √(batch / d), measured for runs of 1–10 million tokens."""
    warmup_fraction: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps in which the rate rises linearly from zero."""
    decay_fraction: float = Field(default=0.2, ge=0, le=1)
    """Share of the steps, at the end, in which the rate falls linearly to zero."""
    auxk_coefficient: float = Field(default=1 / 32, ge=0)
    """Weight of the error that dead latents leave of the residual, relative to its variance (Gao et al. 2024)."""
    k_aux: PositiveInt | None = None
    """Dead latents that predict the residual of a token; left out: half the width of the activations."""
    dead_after_tokens: PositiveInt | Literal["auto"] = "auto"
    """A latent that has not fired for so many tokens is dead; auto: a twentieth of the run."""
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient of all parameters, loss per dimension in scaled units."""
    seed: int | None = None
    """Seed of the initial weights; left out: the experiment's."""
    data_seed: int | None = None
    """Seed of the order of the data; left out: the experiment's."""
    checkpoint_every_tokens: Annotated[PositiveInt, EXECUTION] = 1_000_000
    """Tokens between checkpoints."""
    log_every_steps: PositiveInt = 20
    """Steps between records in metrics.jsonl."""
    sweep: dict[str, list[Any]] = Field(default_factory=dict)
    """Keys of this section to the values to train with, every combination: {l0: [16, 32], seed: [0, 1]}."""

    @model_validator(mode="after")
    def _possible(self) -> "TrainConfig":
        if self.l0 > self.d_sae:
            raise ValueError(f"l0 {self.l0} is larger than d_sae {self.d_sae}: there are not so many latents")
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError("warmup_fraction and decay_fraction add up to more than 1")
        return self

    @property
    def n_steps(self) -> int:
        """Whole batches in `tokens`, at least one."""
        return max(1, self.tokens // self.batch)

    def dictionary(self, d: int, site: str | None, model: str | None) -> DictionaryConfig:
        """What is trained, for activations of width d."""
        return DictionaryConfig(d_in=d, d_out=d, d_sae=self.d_sae, activation=TopK(k=self.l0), site=site, model=model)

    def objective(self, d: int) -> Objective:
        """What is minimised, for activations of width d."""
        if self.auxk_coefficient == 0:
            return Objective(auxiliary=NoAuxiliary())
        return Objective(auxiliary=AuxK(coefficient=self.auxk_coefficient, k=self.k_aux or max(1, d // 2)))

    def schedule(self, d: int) -> Schedule:
        """The learning rate of every step, for activations of width d."""
        peak = self.learning_rate if self.learning_rate != "auto" else automatic_rate(d, self.batch)
        return Schedule(peak, self.n_steps, self.warmup_fraction, self.decay_fraction)
