"""The benchmark stays alive: a quick run of ours gives its rows, whatever they say."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_convergence.py"


def test_quick_run_gives_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--threads", "1", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows.keys() >= {"quick_ours_16384_fvu", "quick_ours_4096_seconds", "quick_ours_8192_dead_fraction"}
    assert rows["quick_ours_16384_fvu"]["value"] < rows["quick_ours_4096_fvu"]["value"]
    assert all(name in done.stdout for name in rows)
