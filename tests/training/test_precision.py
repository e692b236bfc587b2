"""Products in bfloat16 over weights in float32: every preset learns what it learns in float32."""

from typing import Any

import pytest
import torch

from sae.core.random import generator
from sae.training import TrainConfig, initial, loop
from sae.training.state import State
from tests.training.presets import TRAINED, places_of


class Rows:
    """Sparse combinations of twenty directions, by step."""

    def batch(self, step: int) -> torch.Tensor:
        directions = torch.randn(20, 12, generator=generator(0, "directions"))
        codes = torch.rand(256, 20, generator=generator(0, "codes", step))
        return (codes * (codes > 0.85)) @ directions


def trained(preset: str, **changes: Any) -> tuple[State, float]:
    run = {"preset": preset, "d_sae": 32, "l0": 3, "batch": 256, "tokens": 256 * 30, "log_every_steps": 30} | changes
    config = TrainConfig.model_validate(run)
    state = initial(Rows().batch(-1), config, places_of(config))
    (*_, last) = loop(state, Rows(), config)
    return state, last.metrics["fvu"]


@pytest.mark.parametrize("preset", TRAINED)
def test_bfloat16_learns_the_same(preset: str) -> None:
    _, whole = trained(preset)
    state, half = trained(preset, precision="bfloat16")
    assert half == pytest.approx(whole, rel=0.03)
    for value in (*state.dictionary.state_dict().values(), *state.optimiser.state[state.dictionary.W_dec].values()):
        assert value.dtype == torch.float32
