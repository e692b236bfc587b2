"""The command line as a user meets it: a process of its own."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main

SAE = [sys.executable, "-c", "from pipelines.cli import main; main()"]
SIZES = [
    "--text.max_tokens", "50_000", "--train.d_sae", "256", "--train.l0", "8", "--train.tokens", "120_000",
    "--train.batch", "1024", "--steer.n_random", "3", "--validate.n_control", "5", "--report.n_cards", "5",
    "--evaluate.probe_texts", "150", "--steer.max_texts", "24", "--steer.n_neutral", "16", "--validate.max_texts", "40",
]  # fmt: skip
"""An experiment of seconds."""
TWO = "[number, sentiment]"
SMALL = [*SIZES, "--probe.variables", TWO, "--steer.variables", TWO, "--validate.variables", TWO]
"""A quickstart of seconds."""

Sae = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def sae() -> Sae:
    """Runs `sae … --json` and gives the object of its last line; a failure shows what it said."""

    def run(*words: str | Path, **environment: str) -> dict[str, Any]:
        command = [*SAE, *map(str, words), "--json"]
        whole = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=whole)
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout.splitlines()[-1]), "said": done.stderr}

    return run


@pytest.fixture(scope="session")
def sae_here() -> Sae:
    """As `sae`, in this process: for commands that have little to do, which would take seconds to start."""

    def run(*words: str | Path) -> dict[str, Any]:
        out, said = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(said), pytest.raises(SystemExit) as end:
            main([*map(str, words), "--json"])
        assert out.getvalue(), said.getvalue()
        return {**json.loads(out.getvalue().splitlines()[-1]), "said": said.getvalue(), "status": end.value.code}

    return run


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds a small harvest and whatever the tests of this session add."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def quickstart(sae: Sae, store: Path) -> dict[str, Any]:
    """The whole flow, small, on the microworld."""
    return sae("run", "quickstart", *SMALL, "--store", store)
