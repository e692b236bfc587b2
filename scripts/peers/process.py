"""A peer in a process of its own, which waits between its runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers.environment import Environment

from sae.core.errors import WorldError


class PeerProcess:
    """Loads a peer's program once; every call is one run, which times itself."""

    def __init__(self, environment: Environment, program: str, settings: Path) -> None:
        """Raises WorldError where the environment cannot be made or the peer does not load."""
        self._name = environment.name
        self._log = settings.with_suffix(f".{program}.log")
        command = [str(environment.python), str(Path(__file__).with_name(f"{program}.py")), str(settings)]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._answer()

    def tokens_per_second(self) -> float:
        """Of one run."""
        done = self.run()
        return done["n_tokens"] / done["seconds"]

    def run(self) -> dict[str, float]:
        """One run: its tokens, seconds and processor seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            said = self._log.read_text(encoding="utf-8")
            sys.stderr.write(said[-2000:])
            raise WorldError(f"{self._name} ended with status {self._process.returncode}")
        return json.loads(line)

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
