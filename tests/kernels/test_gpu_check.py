"""Without a GPU the check prints its roofline, says that nothing was measured, and succeeds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_table_without_a_gpu(tmp_path):
    file = tmp_path / "rows.json"
    command = [sys.executable, str(SCRIPT), "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing was measured" in done.stdout
    rows = {row["name"]: row["value"] for row in json.loads(file.read_text())}
    for size in ("small", "middle", "large"):
        parts = (rows[f"roofline_{size}_{part}"] for part in ("product", "rows", "adam"))
        assert rows[f"roofline_{size}"] == pytest.approx(sum(parts))
    assert not any(name.startswith("step") for name in rows)
