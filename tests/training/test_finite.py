"""Nothing that is not finite moves a state or is saved; the error names the step and the part."""

from pathlib import Path

import pytest
import torch

from sae.dictionary import Dictionary
from sae.dictionary.scale import Scales
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import TrainConfig, checkpoint, initial, loop
from sae.training.finite import DivergedError
from sae.training.snapshot import tensors_of
from tests.training.presets import TRAINED, places_of

DATA = Synthetic(SyntheticConfig(d=12, n_directions=24, l0=3), batch=64)


class SteepAt:
    """A term that is 0 at step 2 with a gradient that is no number."""

    def loss(self, dictionary: Dictionary, scales: Scales, step: int) -> torch.Tensor:
        away = dictionary.b_dec - dictionary.b_dec.detach()
        return away.abs().sqrt().sum() if step == 2 else away.sum()


@pytest.mark.parametrize("preset", TRAINED)
def test_a_gradient_that_is_not_finite_moves_nothing(preset: str) -> None:
    config = TrainConfig.model_validate({"preset": preset, "d_sae": 32, "l0": 4, "tokens": 640, "batch": 64})
    state = initial(DATA.batch(100), config, places_of(config))
    steps = loop(state, DATA, config, SteepAt())
    for _ in range(2):
        next(steps)
    before = tensors_of(state)
    with pytest.raises(DivergedError, match=r"the gradient of b_dec is not finite at step 2 \(tokens 128 to 192"):
        next(steps)
    after = tensors_of(state)
    assert state.step == 2
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in state.dictionary.parameters())
    assert next(loop(state, DATA, config)).step == 3


def test_a_checkpoint_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    config = TrainConfig(d_sae=32, l0=4, tokens=640, batch=64)
    state = initial(DATA.batch(100), config)
    good = checkpoint.save(state, config, tmp_path)
    with torch.no_grad():
        state.dictionary.W_dec[3, 5] = torch.inf
    state.step = 7
    with pytest.raises(DivergedError, match=r"not finite after step 7 \(dictionary.W_dec\)"):
        checkpoint.save(state, config, tmp_path)
    assert list(tmp_path.iterdir()) == [good]
