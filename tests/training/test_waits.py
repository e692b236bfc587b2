"""How often a step makes the host wait for a GPU: counted without one, at what would have to answer the host.

A processor answers at once, so what `sae` asks of it alone (its `checks`) does not count.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

import sae
from sae.kernels import choice, selection
from sae.kernels.marks import sought
from sae.objective import auxiliary, reconstruction
from sae.synthetic import Truth, TruthConfig
from sae.training import TrainConfig, dead, initial, loop
from sae.training.config import Preset

pytest.importorskip("triton", reason="no package triton here")
ASKING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2", "lift_fresh"}
"""Operators of torch whose result, or its shape, the host has to know; the last copies numbers of the host."""
READING = {"Tensor.tolist", "Tensor.numpy", "Tensor.cpu"}
LIBRARY = f"{Path(sae.__file__).parent}/"
ON_A_PROCESSOR = ("checks.py", 'int(state["step"])')
"""Files and lines: the last reads Adam's counters of steps, which stay there."""


class Noting:
    """A mode that notes what makes a GPU answer, by the line of `sae` that it comes from."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found


class Operators(Noting, TorchDispatchMode):
    """Operators of torch."""

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


class Readings(Noting, TorchFunctionMode):
    """Tensors read as numbers of Python."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = (resolve_name(func) or "").removeprefix("torch.")
        if name in READING or (name == "Tensor.to" and "cpu" in (*args[1:], *(kwargs or {}).values())):
            note(self._found, name)
        return func(*args, **(kwargs or {}))


def note(found: Counter[str], name: str) -> None:
    lines = [line for line in traceback.extract_stack() if line.filename.startswith(LIBRARY)]
    where = f"{lines[-1].filename.removeprefix(LIBRARY)}: {lines[-1].line}" if lines else ""
    if lines and not any(one in where for one in ON_A_PROCESSOR):
        found[f"{name} in {where}"] += 1


@contextmanager
def counted() -> Iterator[Counter[str]]:
    found: Counter[str] = Counter()
    with Operators(found), Readings(found):
        yield found


def step_of(preset: Preset, n_tokens: int) -> Callable[[], object]:
    """One more step of a run that has dead latents."""
    truth = Truth(TruthConfig(d=16, n_features=32, highest=0.2, lowest=0.02, n_trees=1, depth=1))
    stream = truth.stream("train", n_tokens)
    config = TrainConfig(preset=preset, d_sae=256, l0=2, batch=n_tokens, tokens=200 * n_tokens, log_every_steps=1000)
    state = initial(stream.rows(0, 512), config.model_copy(update={"dead_after_tokens": 128}))
    batches = [stream.batch(step) for step in range(20)]

    class Made:
        def batch(self, step: int) -> torch.Tensor:
            return batches[step]

    run = loop(state, Made(), config)
    next(run)  # logs
    next(run)
    assert state.n_dead is not None
    state.tokens_since_fired[:50] = 10**6  # as if it had heard of so many
    state.n_dead = dead.Counted(50, state.n_dead.after, state.tokens_since_fired._version)
    assert dead.is_dead(state.tokens_since_fired, state.n_dead.after).sum() == 50
    return lambda: next(run)


def as_on_a_gpu(marks: torch.Tensor, n_set: int | None = None) -> torch.Tensor:
    return marks.nonzero().flatten() if n_set is None else sought(marks, n_set)


@pytest.mark.parametrize(
    ("preset", "n_tokens", "most"),
    [
        pytest.param("topk", 32, 1, id="topk"),
        pytest.param("batchtopk", 32, 3, id="batchtopk: and how many pairs there are"),
        pytest.param("matryoshka", 32, 4, id="matryoshka: and how many of each prefix"),
        # More than the sample of tokens that chooses between a dense and a sparse code.
        pytest.param("relu", 160, 4, id="relu: and how dense its code is, and its pairs"),
        pytest.param("jumprelu", 160, 5, id="jumprelu: the same, twice how dense"),
        pytest.param("gated", 160, 4, id="gated: the same"),
    ],
)
def test_a_step_asks_the_device_once(monkeypatch, preset, n_tokens, most):
    step = step_of(preset, n_tokens)
    monkeypatch.setenv(choice.VARIABLE, "triton")
    for module in (auxiliary, reconstruction, selection, dead):
        monkeypatch.setattr(module, "places", as_on_a_gpu)
    with counted() as found:
        step()
    assert 1 <= found.total() <= most, found
