"""Checkpoints: a `State` on disk, whole or not at all, from which a run goes on bit for bit.

1. A checkpoint is a folder `step-<n>` with `state.safetensors` (weights, Adam's moments, counters of dead latents) and
   `state.json` (step, scale, configuration, a checksum of the first file, and on what machine it was written).
2. It is written under another name, synced to disk and renamed; the newest two stay.
3. A damaged newest one is passed over for the one before, with a notice. So is a difference of thread count, processor
   or torch version: the run goes on, but bits may differ.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from sae.core.errors import InputError, WorldError
from sae.dictionary import Dictionary, DictionaryConfig
from sae.dictionary.scale import Scales
from sae.training.config import TrainConfig
from sae.training.controller import Controller
from sae.training.optimiser import adam
from sae.training.state import State

FORMAT = 2
TENSORS = "state.safetensors"
RECORD = "state.json"
_CONTROLLER: TypeAdapter[Controller] = TypeAdapter(Controller)
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Latest(NamedTuple):
    """What a folder of checkpoints gives to a run that resumes."""

    state: State | None
    """The newest state that is whole; none where there is none."""
    notices: tuple[str, ...]
    """What the user should know: damaged checkpoints, another machine."""


def save(state: State, config: TrainConfig, folder: Path, keep: int = 2) -> Path:
    """Writes a checkpoint into `folder` and removes all but the newest `keep`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    final, building = folder / f"step-{state.step:09d}", folder / f".step-{state.step:09d}"
    for leftover in (final, *folder.glob(".step-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir()
    save_file(_tensors(state), building / TENSORS)
    record = _record(state, config) | {"sha256": _sha256((building / TENSORS).read_bytes())}
    (building / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for path in (building / TENSORS, building / RECORD, building):
        _sync(path)
    building.rename(final)
    _sync(folder)
    for old in _newest_first(folder)[keep:]:
        shutil.rmtree(old)
    return final


def latest(folder: Path, config: TrainConfig, device: torch.device | str = "cpu") -> Latest:
    """The newest checkpoint in `folder` that can be read.

    Raises:
        InputError: it belongs to a run with another configuration.
    """
    notices = []
    for path in _newest_first(folder):
        try:
            state, here = read(path, config, device)
        except WorldError as error:
            notices.append(f"{error}; falling back to the checkpoint before it")
            continue
        return Latest(state, (*notices, *here))
    return Latest(None, tuple(notices))


def read(path: Path, config: TrainConfig, device: torch.device | str = "cpu") -> tuple[State, list[str]]:
    """The state in one checkpoint, and what differs between the machine that wrote it and this one.

    Raises:
        WorldError: the checkpoint is damaged.
        InputError: it belongs to a run with another configuration.
    """
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        content = (path / TENSORS).read_bytes()
        if record["format"] != FORMAT or record["sha256"] != _sha256(content):
            raise WorldError(f"checkpoint {path} is damaged: checksum or format differ")
        _check_config(path, record["config"], config)
        tensors = {name: value.to(device) for name, value in load(content).items()}
        state = _state(record, tensors)
        written_on = record["environment"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise WorldError(f"checkpoint {path} is damaged: {type(error).__name__} {error}") from error
    changed = {k: (written_on.get(k), v) for k, v in environment().items() if written_on.get(k) != v}
    return state, [f"{k} was {a}, is {b}: the resumed run may differ in its last bits" for k, (a, b) in changed.items()]


def environment() -> dict[str, Any]:
    """What must be equal for a resumed run to equal the uninterrupted one bit for bit."""
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def _record(state: State, config: TrainConfig) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "step": state.step,
        "n_tokens": state.n_tokens,
        "scales": state.scales.model_dump(mode="json"),
        "controller": state.controller.model_dump(mode="json"),
        "dictionary": state.dictionary.config.model_dump(mode="json"),
        "config": config.hashed(),
        "environment": environment(),
    }


def _tensors(state: State) -> dict[str, Tensor]:
    tensors = {f"dictionary.{name}": value.detach() for name, value in state.dictionary.state_dict().items()}
    for name, parameter in state.dictionary.named_parameters():
        for moment, value in state.optimiser.state.get(parameter, {}).items():
            assert moment in _MOMENTS
            tensors[f"adam.{moment}.{name}"] = value
    tensors["tokens_since_fired"] = state.tokens_since_fired
    return {name: value.cpu().clone().contiguous() for name, value in tensors.items()}


def _state(record: dict[str, Any], tensors: dict[str, Tensor]) -> State:
    counters = tensors["tokens_since_fired"]
    dictionary = Dictionary(DictionaryConfig.model_validate(record["dictionary"])).to(counters.device).train()
    dictionary.load_state_dict({n: tensors[f"dictionary.{n}"] for n in dictionary.state_dict()})
    optimiser = adam(dictionary)
    for name, parameter in dictionary.named_parameters():
        moments = {m: tensors[f"adam.{m}.{name}"] for m in _MOMENTS if f"adam.{m}.{name}" in tensors}
        if moments:
            optimiser.state[parameter] = moments
    scales, controller = Scales.model_validate(record["scales"]), _CONTROLLER.validate_python(record["controller"])
    return State(dictionary, optimiser, scales, counters, controller, record["step"], record["n_tokens"])


def _check_config(path: Path, written: dict[str, Any], config: TrainConfig) -> None:
    here = json.loads(json.dumps(config.hashed()))
    changed = sorted(key for key in written.keys() | here.keys() if written.get(key) != here.get(key))
    if changed:
        raise InputError(f"checkpoint {path} belongs to another configuration: {', '.join(changed)} differ")


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
