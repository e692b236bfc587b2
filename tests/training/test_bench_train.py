"""The benchmark stays alive: a quick run of ours gives its rows, whatever they say."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_train.py"


def test_quick_run_gives_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--json", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows.keys() >= {
        "topk_quick_times_floor",
        "jumprelu_quick_step_ours",
        "relu_quick_step_floor",
        "relu_quick_l0",
    }
    assert rows.keys() >= {
        "topk_quick_rate_from_shards",
        "encode_quick_of_product",
        "relu_quick_l0",
        "part_quick_gradients_of_rows",
    }
    for name, row in rows.items():
        assert set(row) == {"name", "value", "unit", "against", "target", "holds"}
        assert row["value"] > 0 or name in ("memory_quick", "part_quick_rest", "part_quick_selection")
        assert name in done.stdout
