"""Runs that share one pass over the activations end with the bits that each has alone."""

import pytest
import torch

from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import Failed, Moved, Run, State, TrainConfig, initial, loop, side_by_side
from sae.training.snapshot import tensors_of, values_of
from tests.training.presets import TRAINED, places_of

DATA = Synthetic(SyntheticConfig(d=12, n_directions=24, l0=3), batch=64)
CONFIG = TrainConfig(d_sae=32, l0=4, tokens=12 * 64, batch=64, dead_after_tokens=128, log_every_steps=5)
MEMBERS = [
    *(CONFIG.model_copy(update={"l0": l0, "seed": seed}) for l0 in (2, 4) for seed in (0, 1)),
    CONFIG.model_copy(update={"tokens": 7 * 64}),
    *(CONFIG.model_copy(update={"preset": preset}) for preset in TRAINED),
]


class Counted:
    """Batches that count how often each was read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def batch(self, step: int) -> torch.Tensor:
        self.read.append(step)
        return DATA.batch(step)


def start(config: TrainConfig, until: int = 0) -> State:
    state = initial(DATA.batch(10_000), config, places_of(config))
    for progress in loop(state, DATA, config) if until else ():
        if progress.step == until:
            break
    return state


def assert_equal_bits(a: State, b: State) -> None:
    assert values_of(a) == values_of(b)
    for name, value in tensors_of(a).items():
        assert torch.equal(value, tensors_of(b)[name]), name


@pytest.mark.parametrize("begin", [[0] * len(MEMBERS), [3, 0, 7, 5, 7, *[2] * len(TRAINED)]])
def test_every_member_ends_as_if_alone_and_each_batch_is_read_once(begin: list[int]) -> None:
    counted, states = Counted(), [start(config, n) for config, n in zip(MEMBERS, begin, strict=True)]
    seen: dict[int, list[int]] = {}
    for event in side_by_side([Run(s, c) for s, c in zip(states, MEMBERS, strict=True)], counted):
        assert isinstance(event, Moved)
        seen.setdefault(event.number, []).append(event.progress.step)
    assert counted.read == list(range(12))
    for number, (state, config) in enumerate(zip(states, MEMBERS, strict=True)):
        assert_equal_bits(state, start(config, config.n_steps))
        assert seen.get(number, []) == list(range(begin[number] + 1, config.n_steps + 1))


def test_a_member_that_diverges_stops_alone() -> None:
    states = [start(CONFIG), start(CONFIG), start(CONFIG)]
    with torch.no_grad():
        states[1].dictionary.b_dec[3] = torch.nan
    events = list(side_by_side([Run(state, CONFIG) for state in states], DATA))
    failed = [event for event in events if isinstance(event, Failed)]
    assert [(event.number, "at step 0 (tokens 0 to 64" in str(event.error)) for event in failed] == [(1, True)]
    assert states[1].step == 0
    for number in (0, 2):
        assert_equal_bits(states[number], start(CONFIG, CONFIG.n_steps))
