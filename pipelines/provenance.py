"""Where a result came from: versions of what it depends on, and the revision of the code."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path


def library_versions() -> dict[str, str]:
    """Versions of what results depend on."""
    names = ("sae", "torch", "transformers", "tokenizers", "numpy", "scikit-learn", "h5py", "safetensors")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def code_revision() -> str | None:
    """The commit of the checkout that runs, `+` if it has changes; None where it is installed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain")
    return f"{commit}{'+' if changed else ''}" if commit else None


def _git(root: Path, *words: str) -> str:
    """What git prints; empty where it fails. It takes no lock: two runs may ask at once."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stdout.strip()
