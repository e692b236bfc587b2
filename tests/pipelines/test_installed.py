"""The wheel works outside the checkout, in an environment that has its dependencies and nothing of ours.

What it makes is what the checkout makes: every file follows from the hash alone, whoever makes it and where.
"""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.conftest import SMALL

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel; returns its `sae`.

    Its dependencies are this environment's, seen through a path file (whose own path files, and so the editable
    checkout, are not read).
    """
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True, capture_output=True
    )
    site = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", site], check=True, capture_output=True, text=True).stdout.strip()
    (Path(packages) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin" / "sae"


def test_the_wheel_makes_the_same_outside_the_checkout(
    installed: Path, quickstart: dict[str, Any], tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SAE_STORE")}
    environment |= {"HF_HUB_OFFLINE": "1"}

    def sae(*words: str) -> str:
        done = subprocess.run(
            [installed, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "--train.l0" in sae("train", "--help")
    assert "Scorecard" in sae("run", "quickstart", *SMALL)
    for path in quickstart["artifacts"].values():
        here = Path(path)
        there = tmp_path / "artifacts" / here.parent.name / here.name
        names = sorted(str(file.relative_to(here)) for file in here.rglob("*") if file.is_file())
        assert names == sorted(str(file.relative_to(there)) for file in there.rglob("*") if file.is_file())
        differ = {name for name in names if (there / name).read_bytes() != (here / name).read_bytes()}
        assert differ <= {"manifest.json", "metrics.jsonl"}
    where = "import sae, pipelines; print(sae.__file__, pipelines.__file__)"
    files = subprocess.run(
        [installed.with_name("python"), "-c", where],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(ROOT) not in files
