"""The benchmark stays alive: a quick run gives its rows, whatever they say."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_reading.py"


def test_quick_run_gives_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--json", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    targets = {name: row["target"] for name, row in rows.items() if row["target"] is not None}
    assert targets.items() >= {"reading_one_site": 0.97, "reading_three_sites": 0.92, "editing_addition": 0.95}.items()
    for name, row in rows.items():
        assert set(row) == {"name", "value", "unit", "against", "target", "holds"}
        assert name in done.stdout
