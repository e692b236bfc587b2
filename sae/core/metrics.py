"""Where a run's numbers go: any sink with `record`; JSON lines are always written."""

import json
import os
from pathlib import Path
from typing import Protocol


class Sink(Protocol):
    """Takes the metrics of one step."""

    def record(self, step: int, values: dict[str, float]) -> None: ...

    def sync(self) -> None:
        """What was recorded outlives this process, and the machine where the sink is a file."""
        ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object a step, flushed at once, so that a killed run keeps what it said."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def record(self, step: int, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
