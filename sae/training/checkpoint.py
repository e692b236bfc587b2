"""Checkpoints: a `State` on disk, whole or not at all, from which a run goes on bit for bit.

1. A checkpoint is a folder `step-<n>` with `state.safetensors` (weights, optimiser, counters: `sae.training.snapshot`),
   `state.json` (step, scale, configuration, a checksum of the first file, and on what machine it was written), and the
   dictionary in the units of the model, so that `sae.load` reads it as it is.
2. It is written under another name, synced to disk and renamed; the newest few and the milestones stay.
3. A damaged newest one is passed over for the one before, with a notice. So is a difference of thread count, processor
   or torch version: the run goes on, but bits may differ.
"""

import hashlib
import json
import platform
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sae.core.artifact import digest_of, sync
from sae.core.errors import InputError, WorldError
from sae.training.config import TrainConfig
from sae.training.finite import check_saved
from sae.training.snapshot import state_from, tensors_of, values_of
from sae.training.state import State, result

FORMAT = 5
TENSORS = "state.safetensors"
RECORD = "state.json"
OWN_DIGEST = "sha256_of_this_record"


class Latest(NamedTuple):
    """What a folder of checkpoints gives to a run that resumes."""

    state: State | None
    """The newest state that is whole; none where there is none."""
    notices: tuple[str, ...]
    """What the user should know: damaged checkpoints, another machine."""


def save(state: State, config: TrainConfig, folder: Path, milestone: bool = False) -> Path:
    """Writes a checkpoint into `folder`; returns its path.

    Of those that are no milestones, all but the newest `keep_checkpoints` are removed.

    Raises:
        DivergedError: it would hold numbers that are not finite; nothing is written.
        WorldError: it cannot be written.
    """
    tensors = tensors_of(state)
    check_saved(tensors, state.step)
    folder.mkdir(parents=True, exist_ok=True)
    final, building = _path(folder, state.step), folder / f".step-{state.step:09d}"
    _remove_leftovers(folder)
    building.mkdir()
    try:
        save_file(tensors, building / TENSORS)
        result(state).save(building)
    except SafetensorError as error:
        raise WorldError(f"the checkpoint {final} cannot be written: {error}") from error
    record = _record(state, config) | {"milestone": milestone, "sha256": digest_of(building / TENSORS)}
    record = _plain(record) | {OWN_DIGEST: _digest(record)}
    (building / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for path in (*building.iterdir(), building):
        sync(path)
    if final.exists():
        final.rename(folder / f".step-{state.step:09d}.before")
    building.rename(final)
    sync(folder)
    _remove_leftovers(folder)
    for later in newest_first(folder):
        if step_of(later) > state.step:  # damaged, or the run would have gone on from it
            shutil.rmtree(later)
    for old in newest_first(folder)[config.keep_checkpoints :]:
        if not is_milestone(old):
            shutil.rmtree(old)
    return final


def keep_milestones(folder: Path) -> None:
    """Removes every checkpoint that is no milestone, and the folder where none is left."""
    if not folder.is_dir():
        return
    _remove_leftovers(folder)
    for path in newest_first(folder):
        if not is_milestone(path):
            shutil.rmtree(path)
    if not any(folder.iterdir()):
        folder.rmdir()


def latest(folder: Path, config: TrainConfig, device: torch.device | str = "cpu") -> Latest:
    """The newest checkpoint in `folder` that can be read.

    Raises:
        InputError: it belongs to a run with another configuration.
    """
    notices = []
    for path in newest_first(folder):
        try:
            state, here = read(path, config, device)
        except WorldError as error:
            notices.append(f"{error}; falling back to what was before it")
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
        own = record.pop(OWN_DIGEST)
        if record["format"] != FORMAT or own != _digest(record) or record["sha256"] != digest_of(path / TENSORS):
            raise WorldError(f"checkpoint {path} is damaged: checksum or format differ")
        _check_config(path, record["config"], config)
        state = state_from(record["values"], load_file(path / TENSORS), device)
        written_on = record["environment"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise WorldError(f"checkpoint {path} is damaged: {type(error).__name__} {error}") from error
    changed = {k: (written_on.get(k), v) for k, v in environment().items() if written_on.get(k) != v}
    return state, [f"{k} was {a}, is {b}: the resumed run may differ in its last bits" for k, (a, b) in changed.items()]


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    return json.loads(json.dumps(record))


def _digest(record: dict[str, Any]) -> str:
    """Checksum of everything else in a record."""
    return hashlib.sha256(json.dumps(_plain(record), sort_keys=True).encode()).hexdigest()


def environment() -> dict[str, Any]:
    """What must be equal for a resumed run to equal the uninterrupted one bit for bit."""
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in `folder`."""
    return sorted(folder.glob("step-*"), reverse=True)


def is_milestone(path: Path) -> bool:
    """Whether a checkpoint stays when newer ones come; one whose record is damaged does not."""
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("milestone") is True


def step_of(path: Path) -> int:
    """The step of a checkpoint, from its name."""
    return int(path.name.removeprefix("step-"))


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}"


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover)


def _record(state: State, config: TrainConfig) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "step": state.step,
        "n_tokens": state.n_tokens,
        "values": values_of(state),
        "config": config.hashed(),
        "environment": environment(),
    }


def _check_config(path: Path, written: dict[str, Any], config: TrainConfig) -> None:
    here = json.loads(json.dumps(config.hashed()))
    changed = sorted(key for key in written.keys() | here.keys() if written.get(key) != here.get(key))
    if changed:
        raise InputError(f"checkpoint {path} belongs to another configuration: {', '.join(changed)} differ")
