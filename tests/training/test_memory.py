"""Memory of a step grows with tokens × active latents, not with tokens × latents, and is the same at every step."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sae.kernels import pool, selection
from sae.kernels.loops import Loops
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import TrainConfig, initial, loop

D, D_SAE, BATCH = 8, 1024, 2048
MADE = Synthetic(SyntheticConfig(d=D, n_directions=64, l0=2), batch=BATCH)


class Made:
    """Two batches that are there already."""

    batches = (MADE.batch(0), MADE.batch(1))

    def batch(self, step: int) -> torch.Tensor:
        return self.batches[step % 2]


DATA = Made()


class Largest(TorchDispatchMode):
    """The most elements that any tensor had which an operator returned."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.n = max(self.n, value.numel())
        return result


@pytest.mark.parametrize("preset", ["topk", "batchtopk", "matryoshka", "relu", "gated"])
def test_nothing_of_tokens_times_latents(monkeypatch, preset):
    monkeypatch.setattr(selection, "BLOCK_ELEMENTS", 64 * D_SAE)
    monkeypatch.setattr(selection, "BLOCK_TOKENS", 64)
    monkeypatch.setattr(Loops, "whole_share", lambda self, kind: 1.0)
    pool.clear()
    config = TrainConfig(preset=preset, d_sae=D_SAE, l0=4, tokens=4 * BATCH, batch=BATCH)
    steps = loop(initial(DATA.batch(99), config), DATA, config)
    next(steps)
    with Largest() as largest:
        list(steps)
    assert largest.n <= 64 * D_SAE + BATCH * 16 < BATCH * D_SAE / 8


def test_gradients_have_the_same_memory_at_every_step():
    pool.clear()
    config = TrainConfig(d_sae=64, l0=4, tokens=4 * BATCH, batch=BATCH)
    state, places = initial(DATA.batch(99), config), set()
    for _ in loop(state, DATA, config):
        assert state.dictionary.W_dec.grad is None
        waiting = [pool.lend(64, D, state.dictionary.W_dec.detach()) for _ in range(2)]
        places.add(frozenset(gradient.data_ptr() for gradient in waiting))
        for gradient in waiting:
            pool.give_back(gradient)
    assert len(places) == 1


def test_what_others_hold_is_not_taken():
    pool.clear()
    whole = torch.zeros(4, 6)
    for shared in (whole[:2], whole.T, whole[:, 0]):
        pool.give_back(shared)
    assert pool.lend(2, 6, whole).data_ptr() != whole.data_ptr()
    assert pool.lend(6, 4, whole).data_ptr() != whole.data_ptr()


def test_a_gradient_that_somebody_keeps_is_not_used_again():
    config = TrainConfig(d_sae=64, l0=4, batch=256, tokens=256 * 6)
    state = initial(DATA.batch(0), config)
    kept: list[torch.Tensor] = []

    def keep(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        kept.append(parameter.grad)

    state.dictionary.W_dec.register_post_accumulate_grad_hook(keep)
    for _ in loop(state, DATA, config):
        pass
    assert len({gradient.data_ptr() for gradient in kept}) == len(kept) == 6


def test_nothing_is_kept_when_training_ends():
    config = TrainConfig(d_sae=64, l0=4, batch=256, tokens=512)
    for _ in loop(initial(DATA.batch(0), config), DATA, config):
        pass
    assert not pool._pool.__dict__
