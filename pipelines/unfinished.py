"""Training runs that a store holds unfinished, and the one that is nearest to a new one.

A changed configuration has another hash and starts anew. The user should know that, and what changed: perhaps it was
not meant.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pipelines.stage import Progress
from sae.core.artifact import Store
from sae.training import checkpoint

RECORD = "inputs.json"
_MOST_SHOWN = 6


def announce(
    store: Store, inputs: Mapping[str, Any], folder: Path, siblings: Collection[str], progress: Progress
) -> None:
    """Says of a run that starts anew which unfinished one is nearest, and notes what the hash of this one is made of.

    The note lies beside the run's checkpoints; `forget_inputs` removes it.
    """
    checkpoints = folder / "checkpoints"
    if not checkpoint.newest_first(checkpoints):
        nearest = nearest_unfinished(store, inputs, siblings)
        if nearest is not None:
            progress.say(nearest)
    checkpoints.mkdir(exist_ok=True)
    (checkpoints / RECORD).write_text(json.dumps(inputs, sort_keys=True) + "\n", encoding="utf-8")


def forget_inputs(folder: Path) -> None:
    """Removes the note, and the folder where nothing else is in it."""
    checkpoints = folder / "checkpoints"
    (checkpoints / RECORD).unlink(missing_ok=True)
    if checkpoints.is_dir() and not any(checkpoints.iterdir()):
        checkpoints.rmdir()


def nearest_unfinished(store: Store, inputs: Mapping[str, Any], siblings: Collection[str]) -> str | None:
    """One line on the unfinished run that differs in the fewest keys; None where there is none.

    Args:
        store: where to look.
        inputs: what the hash of the new run is made of.
        siblings: hashes of the runs that are made now.
    """
    wanted, found = _keys(json.loads(json.dumps(inputs))), []
    for file in sorted((store.root / ".building").glob(f"*/checkpoints/{RECORD}")):
        folder = file.parent.parent
        newest = next(iter(checkpoint.newest_first(file.parent)), None)
        if folder.name in siblings or newest is None:
            continue
        there = _read(file)
        keys = sorted(key for key in wanted.keys() | there.keys() if wanted.get(key) != there.get(key))
        differences = [f"{key} ({_short(there.get(key))} → {_short(wanted.get(key))})" for key in keys]
        found.append((len(keys), folder.name, checkpoint.step_of(newest), differences))
    if not found:
        return None
    n, name, step, differences = min(found)
    shown = ", ".join(differences[:_MOST_SHOWN]) + (f" and {n - _MOST_SHOWN} more" if n > _MOST_SHOWN else "")
    return f"a new run; the nearest unfinished one, {name} at step {step}, differs in {shown}"


def _read(file: Path) -> dict[str, Any]:
    try:
        return _keys(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError):  # torn by a kill
        return {}


def _keys(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the user wrote, by key; the harvest by its hash."""
    section = {f"train.{key}": value for key, value in inputs["section"].items() if key != "sweep"}
    return {"version": inputs["version"], **inputs["parents"], **section}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else text[:21] + "…"
