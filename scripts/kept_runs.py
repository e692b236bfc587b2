"""A file of a benchmark's runs: each is made once, and several processes may share the file."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sae.core.errors import WorldError


class Run(NamedTuple):
    """One dictionary to train; its key names it in the file."""

    library: str
    preset: str
    d_sae: int
    factor: float
    """Of the library's default rate."""
    seed: int

    @property
    def key(self) -> str:
        return f"{self.library}/{self.preset}/{self.d_sae}/rate x{self.factor:g}/seed {self.seed}"


def runs_of(file: Path, is_run: Callable[[dict[str, Any]], bool], what: str) -> dict[str, dict[str, Any]]:
    """The runs that a file holds by name; none where it is not there.

    Raises:
        WorldError: it holds something else; says which run lacks `what`.
    """
    if not file.exists():
        return {}
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorldError(f"{file} holds no runs: {error}") from error
    if not isinstance(found, dict):
        raise WorldError(f"{file} holds no runs, which are an object by name")
    for key, run in found.items():
        if not isinstance(run, dict) or not is_run(run):
            raise WorldError(f"{file} holds no run by the name {key}: it has no {what}")
    return found


class Runs:
    """The runs that are done."""

    def __init__(self, file: Path) -> None:
        """Raises WorldError where the file holds no runs, or there is no folder to write it into."""
        if not file.parent.is_dir():
            raise WorldError(f"{file.parent} is no folder: runs could not be kept there")
        self._file = file
        self.done = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        return runs_of(self._file, lambda run: isinstance(run.get("scores"), dict), "scores")

    def add(self, run: Run, found: dict[str, Any]) -> None:
        with _alone(self._file.parent):
            self.done |= self._read()  # another process may have added to it
            self.done[run.key] = found
            written = self._file.with_suffix(".partial")
            written.write_text(json.dumps(self.done, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            written.replace(self._file)

    def value(self, run: Run, number: str) -> float:
        return self.done[run.key]["scores"][number]["value"]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process is in a block with this folder."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
