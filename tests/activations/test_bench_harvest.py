"""The benchmark stays alive: a quick run of ours gives its rows, whatever they say."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_harvest.py"


def test_quick_run_gives_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--json", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    targets = {name: row["target"] for name, row in rows.items() if row["target"] is not None}
    assert targets.items() >= {"harvest_gpt2_one_site": 0.9, "harvest_gpt2_three_sites": 0.85}.items()
    for name, row in rows.items():
        assert set(row) == {"name", "value", "unit", "against", "target", "holds"}
        assert name in done.stdout
