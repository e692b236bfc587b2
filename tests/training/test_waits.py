"""How often a step makes the host wait for a GPU: counted without one, at what would have to answer the host.

A processor answers at once, so what `sae` asks of it alone (`checks`, `marks`) does not count.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from sae.kernels import choice
from sae.synthetic import Truth, TruthConfig
from sae.training import TrainConfig, initial, loop
from sae.training.config import Preset

pytest.importorskip("triton", reason="no package triton here")
ASKING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2", "lift_fresh"}
"""Operators of torch whose result, or its shape, the host has to know; the last copies numbers of the host."""
READING = {"Tensor.tolist", "Tensor.numpy", "Tensor.cpu"}
ON_A_PROCESSOR = ("sae/kernels/checks.py", "sae/kernels/marks.py", "sae/training/optimiser.py")
"""The last reads Adam's counters of steps, which stay there."""


class Operators(TorchDispatchMode):
    """Counts operators that make a GPU answer, by the line of `sae` that they come from."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        of_any_length = func is torch.ops.aten.repeat_interleave.Tensor and (kwargs or {}).get("output_size") is None
        if name in ASKING or by_mask or of_any_length:
            note(self._found, name)
        return func(*args, **(kwargs or {}))


class Readings(TorchFunctionMode):
    """The same for tensors read as numbers of Python."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = (resolve_name(func) or "").removeprefix("torch.")
        if name in READING:
            note(self._found, name)
        return func(*args, **(kwargs or {}))


def note(found: Counter[str], name: str) -> None:
    lines = [line for line in traceback.extract_stack() if "/sae/" in line.filename]
    if lines and not lines[-1].filename.endswith(ON_A_PROCESSOR):
        found[f"{name} in {lines[-1].filename.split('/sae/')[-1]}: {lines[-1].line}"] += 1


@contextmanager
def counted() -> Iterator[Counter[str]]:
    found: Counter[str] = Counter()
    with Operators(found), Readings(found):
        yield found


def step_of(preset: Preset) -> Callable[[], object]:
    """One more step of a run that has dead latents, with few enough latents a token for the sparse path."""
    truth = Truth(TruthConfig(d=16, n_features=32, highest=0.2, lowest=0.02, n_trees=1, depth=1))
    stream = truth.stream("train", 32)
    config = TrainConfig(preset=preset, d_sae=256, l0=2, batch=32, tokens=200 * 32, log_every_steps=1000)
    state = initial(stream.rows(0, 512), config.model_copy(update={"dead_after_tokens": 128}))
    batches = [stream.batch(step) for step in range(20)]

    class Made:
        def batch(self, step: int) -> torch.Tensor:
            return batches[step]

    run = loop(state, Made(), config)
    next(run)  # logs
    state.tokens_since_fired[:50] = 10**6
    next(run)  # counts them
    assert state.n_dead is not None
    assert state.n_dead.n > 0
    return lambda: next(run)


@pytest.mark.parametrize(
    ("preset", "most"),
    [
        pytest.param("topk", 1, id="topk"),
        pytest.param("batchtopk", 3, id="batchtopk: and how many pairs there are"),
        pytest.param("matryoshka", 4, id="matryoshka: and how many of each prefix"),
        pytest.param("relu", 3, id="relu: and how many pairs there are"),
        pytest.param("jumprelu", 3, id="jumprelu: and how many pairs there are"),
        pytest.param("gated", 3, id="gated: and how many pairs there are"),
    ],
)
def test_a_step_asks_the_device_once(monkeypatch, preset, most):
    step = step_of(preset)
    monkeypatch.setenv(choice.VARIABLE, "triton")
    with counted() as found:
        step()
    assert 1 <= found.total() <= most, found
