"""The benchmark stays alive: a quick run of ours gives its rows, whatever they say; no run is made twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_quality.py"


def test_quick_run_gives_the_rows_and_keeps_its_runs(tmp_path: Path) -> None:
    file, runs = tmp_path / "rows.json", tmp_path / "runs.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--presets", "topk", "--json", str(file), "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows.keys() >= {"topk_32_mcc_best", "topk_32_f1_default", "random_32_mcc", "true_directions_32_f1"}
    for name, row in rows.items():
        assert set(row) == {"name", "value", "unit", "against", "target", "holds"}
        assert name in done.stdout
    kept = json.loads(runs.read_text())
    assert {key.split("/")[-1] for key in kept} == {"seed 0", "seed 1", "seed 2"}
    assert {run["n_rows_scored"] for run in kept.values()} == {2048}
    again = subprocess.run([*command, "--only-compare"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(file.read_text()) == list(rows.values())


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["--presets", "topk,nonsense"], "matryoshka"),
        (["--peers", "nonsense"], "sparsify"),
        (["--presets", ","], "matryoshka"),
        (["--presets", ""], "matryoshka"),
        (["--d-sae", ""], "whole numbers from 1 on"),
        (["--d-sae", "0"], "whole numbers from 1 on"),
        (["--d-sae", "x"], "whole numbers from 1 on"),
        (["--d-sae", "1"], "fewer latents than l0"),
        (["--minutes", "nan"], "0 or more"),
        (["--workers", "0"], "1 or more"),
        (["--runs", "{broken}"], "holds no runs"),
        (["--runs", "{other}"], "no scores"),
        (["--runs", "{missing}"], "a folder that is there"),
        (["--json", "{missing}"], "a folder that is there"),
    ],
)
def test_wrong_words_end_with_what_is_allowed(words: list[str], allowed: str, tmp_path: Path) -> None:
    (broken := tmp_path / "broken.json").write_text("[1, 2]")
    (other := tmp_path / "other.json").write_text('{"ours/topk/32/rate x1/seed 0": 3}')
    words = [word.format(broken=broken, other=other, missing=tmp_path / "none" / "runs.json") for word in words]
    done = subprocess.run([sys.executable, str(SCRIPT), "--quick", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert allowed in done.stderr
    assert "Traceback" not in done.stderr
    assert broken.read_text() == "[1, 2]"
