"""The study stays alive: tiny runs of every kind of arm, whose numbers are kept and not made again."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "study_defaults.py"
NAMES = "x1,activations at x1,free,at all"


def test_quick_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--seeds", "0", "--presets", "topk,relu", "--names", NAMES]
    command += ["--cache", str(tmp_path), "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept = json.loads(runs.read_text())
    assert {tuple(key.split("/")[1:3]) for key in kept} == {
        ("topk", "rate"), ("relu", "rate"), ("topk", "signum"), ("topk", "muon"), ("topk", "first rows"),
        ("topk", "not held back"), ("topk", "decoder rows"), ("relu", "decoder rows"),
    }  # fmt: skip
    assert all({"fvu", "dead_fraction", "mcc"} <= set(numbers) for numbers in kept.values())
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.stdout == done.stdout
    assert "seed 0" not in again.stderr
