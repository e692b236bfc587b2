"""The data are what the formula says, and the same for the same step."""

import pytest
import torch

from sae.core.errors import InputError
from sae.synthetic import Synthetic, SyntheticConfig, mean_max_cosine

CONFIG = SyntheticConfig(d=16, n_directions=40, l0=5, zipf=0.7, noise=0.1)


def test_steps_are_random_access_and_differ():
    assert torch.equal(Synthetic(CONFIG, 8).batch(5), Synthetic(CONFIG, 8).batch(5))
    assert not torch.equal(Synthetic(CONFIG, 8).batch(5), Synthetic(CONFIG, 8).batch(6))


def test_frequencies_and_l0_are_those_asked_for():
    data = Synthetic(CONFIG, 20_000)
    active = (data.codes(0) > 0).double().mean(0)
    assert float(active.sum()) == pytest.approx(5, rel=0.05)
    assert float(active[0] / active[31]) == pytest.approx(32**0.7, rel=0.3)
    torch.testing.assert_close(data.directions.norm(dim=1), torch.ones(40))


def test_tokens_are_codes_times_directions_plus_noise():
    data = Synthetic(CONFIG, 5000)
    rest = data.batch(2) - data.codes(2) @ data.directions
    assert float(rest.std()) == pytest.approx(0.1, rel=0.05)


def test_an_l0_that_cannot_be_reached_is_refused():
    with pytest.raises(InputError, match="too large"):
        Synthetic(SyntheticConfig(d=4, n_directions=8, l0=7, zipf=1.0))


def test_mmcs_of_itself_is_one_in_any_order_and_length():
    rows = Synthetic(CONFIG).directions
    assert mean_max_cosine(rows, 3 * rows.flip(0)) == pytest.approx(1)
    assert mean_max_cosine(rows, rows[:20]) < 1
