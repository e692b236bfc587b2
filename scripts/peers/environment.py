"""One virtual environment per peer, made when it is first asked for.

They lie under `SAE_PEERS`, else `~/.cache/sae-peers`, each with the versions pinned here, beside torch for processors.
A file `ready` is written last, so that what broke off is made anew. pip's own configuration says where it looks.
"""

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from sae.core.errors import WorldError


@dataclass(frozen=True)
class Environment:
    """A peer and what it needs."""

    name: str
    requirement: str
    """As pip reads it."""
    unwanted: tuple[str, ...] = ()
    """What it pulls in and breaks beside torch for processors."""

    @property
    def folder(self) -> Path:
        return home() / self.requirement.replace("==", "-")

    @property
    def python(self) -> Path:
        """Its interpreter; the environment is made if it is not there.

        Raises:
            WorldError: pip failed; with the last line that it said.
        """
        if not (self.folder / "ready").is_file():
            self._make()
        return self.folder / "bin" / "python"

    def _make(self) -> None:
        sys.stderr.write(f"making an environment for {self.requirement} in {self.folder} (once, some minutes)\n")
        shutil.rmtree(self.folder, ignore_errors=True)
        venv.create(self.folder, with_pip=True)
        self._pip("install", TORCH, "numpy")
        self._pip("install", TORCH, self.requirement)
        if self.unwanted:
            self._pip("uninstall", "--yes", *self.unwanted)
        (self.folder / "ready").touch()

    def _pip(self, *words: str) -> None:
        command = [str(self.folder / "bin" / "python"), "-m", "pip", "--quiet", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
            raise WorldError(f"pip {words[0]} of {self.requirement} failed: {said}")


TORCH = "torch==2.13.0"
SAELENS = Environment("SAELens", "sae-lens==6.54.12")
SPARSIFY = Environment("sparsify", "eai-sparsify==1.3.3")
DICTIONARY_LEARNING = Environment("dictionary_learning", "dictionary-learning==0.1.0", unwanted=("torchvision",))


def home() -> Path:
    """Where the environments lie."""
    return Path(os.environ.get("SAE_PEERS") or "~/.cache/sae-peers").expanduser()
