"""A run on fast kernels ends where one on the dense reference does; so do those that choose or keep in bfloat16."""

import functools
from typing import Any

import pytest
import torch

from sae.core.measures import fvu
from sae.dictionary import Dictionary
from sae.kernels import choice
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import TrainConfig, initial, loop, result
from sae.training.loop import recipe_of

MADE = Synthetic(SyntheticConfig(d=12, n_directions=24, l0=2), batch=64)
N_STEPS = 500
PRESETS = ["topk", "batchtopk", "relu", "jumprelu"]


class Made:
    """Sixteen batches, again and again."""

    batches = tuple(MADE.batch(step) for step in range(16))

    def batch(self, step: int) -> torch.Tensor:
        return self.batches[step % 16]


def trained(**keys: Any) -> Dictionary:
    # Slow enough that runs which part in a few latents still end in the same place.
    run = {"d_sae": 48, "l0": 3, "batch": 64, "tokens": 64 * N_STEPS, "learning_rate": 1.6e-3} | keys
    config = TrainConfig.model_validate(run)
    state = initial(Made().batch(0), config)
    for _ in loop(state, Made(), config):
        pass
    return result(state)


@functools.cache
def usual(preset: str) -> Dictionary:
    """On the kernels of this machine."""
    return trained(preset=preset)


@torch.no_grad()
def unexplained(dictionary: Dictionary) -> float:
    x = torch.cat(Made.batches)
    return fvu(x, dictionary(x))


def dead(dictionary: Dictionary) -> float:
    return float((~dictionary.encode(torch.cat(Made.batches)).fired()).double().mean())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_ends_where_the_reference_ends(monkeypatch, preset):
    ours = unexplained(usual(preset))
    monkeypatch.setenv(choice.VARIABLE, "reference")
    assert abs(ours - unexplained(trained(preset=preset))) < 1e-3


@pytest.mark.parametrize("preset", ["topk", "jumprelu"])
def test_choosing_in_bfloat16_learns_the_same(preset):
    """A few latents of thousands are chosen otherwise, so two runs part, and end equally well."""
    coarse, fine = trained(preset=preset, selection="bfloat16"), usual(preset)
    assert all(value.dtype == torch.float32 for value in coarse.state_dict().values())
    assert abs(unexplained(coarse) - unexplained(fine)) < 3e-3
    assert abs(dead(coarse) - dead(fine)) <= 2 / 48


def test_moments_in_bfloat16_learn_the_same():
    coarse, fine = trained(preset="topk", moments="bfloat16"), usual("topk")
    assert abs(unexplained(coarse) - unexplained(fine)) < 3e-3
    assert abs(dead(coarse) - dead(fine)) <= 2 / 48


@pytest.mark.parametrize(
    ("preset", "has_instructions", "chosen"),
    [("topk", True, torch.bfloat16), ("topk", False, None), ("relu", True, None)],
)
def test_latents_are_chosen_in_bfloat16_where_that_is_faster(monkeypatch, preset, has_instructions, chosen):
    monkeypatch.setattr(choice, "multiplies_bfloat16", lambda device: has_instructions)
    config, state = TrainConfig(preset=preset, d_sae=48, l0=3), initial(Made().batch(0), TrainConfig(d_sae=48, l0=3))
    assert recipe_of(state, config).selection == chosen
    assert recipe_of(state, config.model_copy(update={"selection": "bfloat16"})).selection == torch.bfloat16
    assert recipe_of(state, config.model_copy(update={"selection": "as_precision"})).selection is None
