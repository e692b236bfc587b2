"""The controller on codes that follow λ late and grow sparser by themselves, as a dictionary's do."""

import math

import pytest
import torch

from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import TrainConfig, initial
from sae.training.config import Preset
from sae.training.controller import L0Controller
from sae.training.dead import sink
from sae.training.levels import follow, weight
from sae.training.presets import broad_of, controller_of
from sae.training.schedule import Schedule

N_STEPS = 400


def errors(drift: float, start: float) -> list[float]:
    """log(L0 / l0) at every step, where L0 goes a twentieth of the way to L0* = l0 e^(start − drift t − u / 2)."""
    run = {"preset": "relu", "d_sae": 64, "l0": 16, "batch": 1, "tokens": N_STEPS, "broad": 1}
    controller = controller_of(TrainConfig.model_validate(run), 64)
    assert isinstance(controller, L0Controller)
    first, found = controller.u, [start]
    for t in range(N_STEPS):
        controller = controller.after(16 * math.exp(found[-1]))
        wanted = start - drift * t - (controller.u - first) / 2
        found.append(found[-1] + 0.05 * (wanted - found[-1]))
    return found


@pytest.mark.parametrize(("drift", "start", "most"), [(0.001, 0.0, 0.015), (0.0, 0.5, 0.035), (0.0, -0.5, 0.035)])
def test_neither_a_drift_nor_a_start_leaves_an_error(drift: float, start: float, most: float) -> None:
    """A controller that only summed errors would stay drift · 2 T / K = 4 % away."""
    assert max(map(abs, errors(drift, start)[-50:])) < most


@pytest.mark.parametrize(
    ("preset", "d_sae", "first", "narrowed"),
    [
        ("relu", 64, 4.0, 80),
        ("relu", 128, 8.0, 80),
        ("jumprelu", 64, 4.0, 95),
        ("jumprelu", 512, 8.0, 95),
        ("jumprelu", 4096, 16.0, 95),
    ],
)
def test_codes_begin_broad_and_narrow_to_l0(preset: str, d_sae: int, first: float, narrowed: int) -> None:
    config = TrainConfig.model_validate({"preset": preset, "d_sae": d_sae, "l0": 4, "batch": 1, "tokens": 100})
    controller, wanted = controller_of(config, 16), []
    for _ in range(100):
        assert isinstance(controller, L0Controller)
        wanted.append(controller.wanted)
        controller = controller.after(4.0)
    assert wanted[0] == first
    assert wanted == sorted(wanted, reverse=True)
    assert wanted[narrowed - 1] == pytest.approx(4, rel=0.02)
    assert wanted[narrowed:] == [4.0] * (100 - narrowed)
    if first > 4:
        assert wanted[narrowed - 10] > 4


@pytest.mark.parametrize(
    ("preset", "l0", "broad"), [("jumprelu", 64, 1), ("relu", 64, 1), ("gated", 12, 2.5), ("relu", 6, 10)]
)
def test_codes_of_many_latents_begin_with_few_times_l0(preset: Preset, l0: int, broad: float) -> None:
    assert broad_of(TrainConfig(preset=preset, d_sae=65_536, l0=l0, tokens=100)) == broad


def test_thresholds_of_dead_latents_sink_and_no_others() -> None:
    data = Synthetic(SyntheticConfig(d=16, n_directions=24, l0=2), batch=256)
    state = initial(data.batch(0), TrainConfig.model_validate({"preset": "jumprelu", "d_sae": 64, "l0": 8}))
    before, is_dead = state.dictionary.threshold.detach().clone(), torch.arange(64) < 8
    sink(state.dictionary, is_dead)
    after = state.dictionary.threshold.detach()
    assert (after[:8] < before[:8]).all()
    assert (after[8:] == before[8:]).all()


def test_levels_follow_only_while_the_rate_falls() -> None:
    schedule = Schedule(1.0, 1000, 0.05, 0.2)
    assert [weight(schedule, step) for step in (0, 500, 799)] == [0, 0, 0]
    assert [weight(schedule, step) for step in (801, 930)] == [1, 1]
    assert weight(schedule, 990) == pytest.approx(10 / 67, rel=0.01)


@pytest.mark.parametrize("preset", ["relu", "gated", "jumprelu"])
def test_levels_make_dense_codes_sparser(preset: str) -> None:
    data = Synthetic(SyntheticConfig(d=16, n_directions=24, l0=2), batch=256)
    state = initial(data.batch(0), TrainConfig.model_validate({"preset": preset, "d_sae": 64, "l0": 8, "broad": 1}))
    x, dictionary = state.scale * data.batch(1), state.dictionary
    before = float(dictionary.encode(x).l0().double().mean())
    assert isinstance(state.controller, L0Controller)
    for r, changes in ((0.0, False), (1.0, True)):
        follow(dictionary, state.controller.after(16.0), r)
        assert (float(dictionary.encode(x).l0().double().mean()) < before) == changes


@pytest.mark.parametrize("preset", ["relu", "gated", "jumprelu"])
@pytest.mark.parametrize(("l0", "sizes"), [(40.0, 2.0), (1.0, -0.5)])
def test_levels_that_do_not_help_are_shifted_no_further(preset: str, l0: float, sizes: float) -> None:
    """Here L0 stays what it is, whatever is shifted."""
    data = Synthetic(SyntheticConfig(d=16, n_directions=24, l0=2), batch=256)
    state = initial(data.batch(0), TrainConfig.model_validate({"preset": preset, "d_sae": 64, "l0": 4}))
    dictionary, controller = state.dictionary, state.controller
    level, sign = (dictionary.threshold, 1) if preset == "jumprelu" else (dictionary.b_enc, -1)
    level.data.copy_(torch.full_like(level, 10.0))  # thresholds stop at zero
    for _ in range(50):
        assert isinstance(controller, L0Controller)
        controller = follow(dictionary, controller.after(l0), 1.0)
    assert sign * (float(level.detach().mean()) - 10) == pytest.approx(sizes * math.sqrt(16 / 4), rel=1e-4)
