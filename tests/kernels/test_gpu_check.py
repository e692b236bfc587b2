"""Without a GPU the check prints its roofline, says that nothing was measured, and succeeds; peers may fail in it."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


ANSWERS = """#!/bin/sh
echo '{"ready": true}'
while read line; do echo '{"n_tokens": 8192, "seconds": 0.5, "processor_seconds": 0.5}'; done
"""
FAILS = "#!/bin/sh\necho 'out of memory' >&2\nexit 1\n"
HANGS = "#!/bin/sh\nexec sleep 600\n"


@pytest.fixture
def check(tmp_path, monkeypatch) -> ModuleType:
    """The script as a module, whose peers are small programs: one answers, one fails, one hangs."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setenv("SAE_PEERS", str(tmp_path))
    module = importlib.import_module("gpu_check")
    for name, program in zip(module.PEERS, (ANSWERS, FAILS, HANGS), strict=True):
        python = module.PEERS[name].folder / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(program)
        python.chmod(0o755)
        (module.PEERS[name].folder / "ready").touch()
    return module


def test_peers_that_fail_or_hang_are_said_and_left_out(check, monkeypatch, capsys):
    monkeypatch.setattr(check, "PEER_SECONDS", 1.0)
    size = check.Size("tiny", 8, 16, batch=4, k=2)
    rows = {row["name"]: row for row in check.peer_rows(size, 0.1, list(check.PEERS), "cpu")}
    answers, fails, hangs = check.PEERS
    assert rows[f"step_tiny_{answers}"]["value"] == pytest.approx(500)
    assert rows[f"step_tiny_over_{answers}"]["value"] == pytest.approx(5)
    assert len(rows) == 2
    said = capsys.readouterr().out
    assert f"{fails} is left out" in said
    assert "out of memory" in said
    assert f"{hangs} is left out" in said


def test_a_peer_is_to_be_slower_so_many_times(check):
    over = [check.row("over", value, "ratio", target=4.0, least=True)["holds"] for value in (3.9, 4.0, 5.0)]
    assert over == [False, True, True]
    assert [check.row("of", value, "ratio", target=1.7)["holds"] for value in (1.6, 1.8)] == [True, False]
