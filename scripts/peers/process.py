"""A peer in a process of its own, which waits between its runs."""

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from peers.environment import Environment

from sae.core.errors import WorldError


class PeerProcess:
    """Loads a peer's program once; every call is one run, which times itself."""

    def __init__(
        self, environment: Environment, program: str, settings: Path, seconds: float = threading.TIMEOUT_MAX
    ) -> None:
        """It is ended after so many seconds.

        Raises:
            WorldError: the environment cannot be made or the peer does not load.
        """
        self._name = environment.name
        self._log = settings.with_suffix(f".{program}.log")
        command = [str(environment.python), str(Path(__file__).with_name(f"{program}.py")), str(settings)]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._end = threading.Timer(seconds, self._process.kill)
        self._end.daemon = True
        self._end.start()
        self._answer()

    def tokens_per_second(self) -> float:
        """Of one run."""
        done = self.run()
        return done["n_tokens"] / done["seconds"]

    def run(self) -> dict[str, float]:
        """One run: its tokens, seconds and processor seconds.

        Raises:
            WorldError: it failed, or its time is over.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended since its last answer: what it said is read below
            self._process.stdin.write("run\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            said = self._log.read_text(encoding="utf-8")
            sys.stderr.write(said[-2000:])
            last = "".join(f": {line}" for line in said.splitlines()[-1:])
            raise WorldError(f"{self._name} ended with status {self._process.returncode}{last}")
        return json.loads(line)

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(BrokenPipeError), self._process:
            pass  # leaving closes its pipes, upon which it ends, and waits
        self._end.cancel()
