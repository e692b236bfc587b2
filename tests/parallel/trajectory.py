"""Short runs in float64, the same whether one process makes them or two; imported by both."""

from typing import Any

import torch

from sae.activations.shuffle import Reader
from sae.parallel import Mesh, share
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import State, TrainConfig, initial, loop
from sae.training.optimiser import adam

N_STEPS, BATCH = 20, 65
"""An odd batch: two ranks have shares of different sizes."""
DATA = Synthetic(SyntheticConfig(d=16, n_directions=32, l0=3), batch=BATCH)
# Dead latents from step 4 on, so that AuxK and resampling have something to do.
COMMON = {"d_sae": 48, "l0": 4, "tokens": N_STEPS * BATCH, "batch": BATCH, "dead_after_tokens": 4 * BATCH}
LOGGED = {"log_every_steps": 1, "learning_rate": 3e-3, "seed": 1}
RUNS: dict[str, dict[str, Any]] = {
    "topk": {},
    "topk in micro-batches": {"accumulate": 3, "auxk_coefficient": 0},
    "relu, resampled": {"preset": "relu"},
    "jumprelu, quadratic": {"preset": "jumprelu", "penalty": "quadratic"},
    "gated": {"preset": "gated"},
}
TIMED = ("tokens_per_second",)


def config(name: str) -> TrainConfig:
    return TrainConfig.model_validate(COMMON | LOGGED | RUNS[name])


def start(config: TrainConfig) -> State:
    """The first state in float64, a third of its latents nearly dead."""
    state = initial(DATA.batch(10_000), config)
    state.dictionary.double()
    state.optimiser = adam(state.dictionary)
    with torch.no_grad():
        state.dictionary.encoder_rows[:16] *= 1e-2
        state.dictionary.b_enc[:16] = -0.5
    return state


class Share:
    """A rank's rows of every batch, as `ShuffledBatches` divides them."""

    def __init__(self, mesh: Mesh) -> None:
        self._rows = share(BATCH, *Reader(mesh.data.rank, mesh.data.size)[:2])

    def batch(self, step: int) -> torch.Tensor:
        return DATA.batch(step).double()[self._rows]


def train(name: str, mesh: Mesh) -> dict[str, torch.Tensor]:
    """Every step's metrics and the last state."""
    state = start(config(name))
    said = [done.metrics for done in loop(state, Share(mesh), config(name), mesh=mesh)]
    metrics = {
        f"metric.{key}": torch.tensor([m[key] for m in said], dtype=torch.float64)
        for key in said[0]
        if key not in TIMED
    }
    parameters = {f"parameter.{key}": value.detach() for key, value in state.dictionary.state_dict().items()}
    moments = {
        f"moment.{key}.{moment}": value
        for key, parameter in state.dictionary.named_parameters()
        for moment, value in state.optimiser.state[parameter].items()
    }
    return {**metrics, **parameters, **moments, "tokens_since_fired": state.tokens_since_fired}
