"""The study stays alive: tiny runs of every kind of arm, whose numbers are kept and not made again;
wrong words end it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import study_defaults

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


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["--benches", "nonsense"], "microworld"),
        (["--benches", ""], "microworld"),
        (["--presets", "nonsense"], "matryoshka"),
        (["--groups", "nonsense"], "auxk share"),
        (["--names", "nonsense"], "x0.5"),
        (["--groups", "muon", "--presets", "relu"], "together"),
        (["--seeds", "x"], "whole numbers from 0 on"),
        (["--minutes", "nan"], "0 or more"),
        (["--runs", "{broken}"], "holds no runs"),
        (["--runs", "{other}"], "no seconds"),
        (["--runs", "{missing}"], "a folder that is there"),
    ],
)
def test_wrong_words_end_with_what_is_allowed(
    words: list[str],
    allowed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (broken := tmp_path / "broken.json").write_text("[1, 2]")
    (other := tmp_path / "other.json").write_text('{"synthetic/topk/rate/x1/seed 0": 3}')
    words = [word.format(broken=broken, other=other, missing=tmp_path / "none" / "runs.json") for word in words]
    monkeypatch.setattr(sys, "argv", ["study_defaults.py", "--quick", *words])
    with pytest.raises(SystemExit) as ended:
        study_defaults.main()
    assert ended.value.code == 2
    assert allowed in capsys.readouterr().err
    assert broken.read_text() == "[1, 2]"
