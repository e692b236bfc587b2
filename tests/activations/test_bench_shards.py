"""The benchmark stays alive: a quick run gives its rows, whatever they say."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_shards.py"


def test_quick_run_gives_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--json", str(file), "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert {"shuffled_reading", "row_random_indexing", "cold_reading", "writing"} <= set(rows)
    for name, row in rows.items():
        assert set(row) == {"name", "value", "unit", "against", "target", "holds"}
        assert row["value"] > 0
        assert row["target"] is None
        assert name in done.stdout
    assert list(tmp_path.iterdir()) == [file]
