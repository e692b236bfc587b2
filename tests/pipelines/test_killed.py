"""Nothing is lost: a killed sweep goes on to the same bits, an interrupted one says how to go on."""

import json
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from pipelines.cli import main
from sae.training.config import TrainConfig
from tests.pipelines.conftest import SAE, SMALL, Sae

RUN = ["--train.checkpoint_every_tokens", "10_000", "--train.tokens", "120_000", "--train.seed", "7"]
PRESETS = get_args(TrainConfig.model_fields["preset"].annotation)[:2]
MEMBERS = [(preset, l0) for preset in PRESETS for l0 in ((8,) if len(PRESETS) > 1 else (8, 4))]
SWEEP = ["--train.sweep", f"{{preset: [{', '.join(PRESETS)}], l0: {[8] if len(PRESETS) > 1 else [8, 4]}}}"]
"""Members that are trained on one pass over the activations."""


def start(store: Path) -> subprocess.Popen[str]:
    command = [*SAE, "train", "quickstart", *SMALL, *RUN, *SWEEP, "--store", str(store)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for_checkpoint(store: Path, process: subprocess.Popen[str], n: int) -> None:
    """Until the run has passed its n-th checkpoint."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        steps = [int(path.name.split("-")[1]) for path in (store / ".building").glob("*/checkpoints/step-*")]
        if steps and max(steps) >= n * 10:
            return
        time.sleep(0.02)
    raise AssertionError("no checkpoint was written")


@pytest.fixture
def fresh(quickstart: dict[str, Any], store: Path, tmp_path: Path) -> Path:
    """A store with the same harvest and nothing else."""
    (tmp_path / "activations").symlink_to(store / "activations")
    return tmp_path


def assert_same(resumed: dict[str, Any], uninterrupted: dict[str, Any]) -> None:
    assert len(resumed["paths"]) == len(MEMBERS)
    for path, whole in zip(map(Path, resumed["paths"]), map(Path, uninterrupted["paths"]), strict=True):
        assert path.name == whole.name
        for name in ("weights.safetensors", "untrained/weights.safetensors", "config.yaml"):
            assert (path / name).read_bytes() == (whole / name).read_bytes()
        assert not (path / "checkpoints").exists()
        assert steps(path) == steps(whole)


def steps(path: Path) -> list[str]:
    return [line.split(",")[0] for line in (path / "metrics.jsonl").read_text().splitlines()]


def kill(store: Path, n: int) -> None:
    """Kills the sweep in the midst, after its n-th checkpoint."""
    with start(store) as process:
        wait_for_checkpoint(store, process, n)
        process.kill()
    assert not (store / "dictionaries").exists()


def interrupt(store: Path, n: int, number: signal.Signals) -> None:
    """Asks the sweep to stop: within ten seconds every member is saved, and the user knows how to go on."""
    with start(store) as process:
        wait_for_checkpoint(store, process, n)
        process.send_signal(number)
        asked = time.monotonic()
        assert process.stderr is not None
        said = ""
        while said.count("checkpoint written at step") < len(MEMBERS):
            line = process.stderr.readline()
            assert line, said
            said += line
        assert time.monotonic() - asked < 10
        said += process.stderr.read()
    assert process.returncode == 130
    assert said.count("checkpoint written at step") == len(MEMBERS)
    assert "to go on: sae train quickstart" in said


def test_a_sweep_that_is_killed_and_interrupted_ends_with_the_same_bits(
    quickstart: dict[str, Any], fresh: Path, store: Path, sae_here: Sae, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three kills and both signals, one after another; what members are alone: see `test_training_run`."""
    uninterrupted = sae_here("train", "quickstart", *SMALL, *RUN, *SWEEP, "--store", store)
    for n in (2, 3, 4):
        kill(fresh, n)
    interrupt(fresh, 5, signal.SIGINT)
    changed = ["--train.preset", MEMBERS[0][0], "--train.learning_rate", "2e-3", "--train.tokens", "5_000"]
    with pytest.raises(SystemExit) as end:
        main(["train", "quickstart", *SMALL, *RUN, *changed, "--store", str(fresh)])
    assert end.value.code == 0
    said = capsys.readouterr().err
    assert f"the nearest unfinished one, {Path(uninterrupted['path']).name} at step" in said
    assert 'differs in train.learning_rate ("auto" → 0.002), train.tokens (120000 → 5000)' in said
    shutil.rmtree(fresh / "dictionaries")
    interrupt(fresh, 8, signal.SIGTERM)
    resumed = sae_here("train", "quickstart", *SMALL, *RUN, *SWEEP, "--store", fresh)
    assert resumed["said"].count("resuming at step") == len(MEMBERS)
    assert_same(resumed, uninterrupted)


def test_a_full_disk_is_status_1_and_one_line_and_goes_on_with_room(sae_here: Sae, tmp_path: Path) -> None:
    words = ["harvest", "quickstart", "--text.max_tokens", "30_000", "--store", str(tmp_path)]
    harvest = " ".join(words)
    command = f'ulimit -f 2000; exec {shlex.quote(SAE[0])} -c "{SAE[2]}" {harvest}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if not line.startswith("  harvest ")]
    assert len(said) == 1
    assert "File too large" in said[0]
    assert "to go on: sae harvest quickstart" in said[0]
    assert not (tmp_path / "activations").exists()
    made = sae_here(*words)
    assert not made["reused"]
    assert sae_here("verify", made["path"])["damaged"] == []


HARVEST = ["harvest", "quickstart", "--text.max_tokens", "60_000", "--harvest.shard_rows", "2_000"]


def n_shards(store: Path) -> int:
    return len(list((store / ".building").glob("*/*-*.h5")))


def test_a_harvest_that_is_killed_ends_with_the_same_bits(sae_here: Sae, tmp_path: Path) -> None:
    """Killed three times; that it may be stopped anywhere is a law of `tests/activations/test_resume`."""
    whole, store = Path(sae_here(*HARVEST, "--store", tmp_path / "whole")["path"]), tmp_path / "killed"
    command = [*SAE, *HARVEST, "--store", str(store)]
    for n in (6, 12, 18):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and n_shards(store) < n:
                time.sleep(0.02)
            process.kill()
        assert n_shards(store) >= n
        assert not (store / "activations").exists()
    resumed = sae_here(*HARVEST, "--store", store)
    assert "going on:" in resumed["said"]
    path = Path(resumed["path"])
    names = sorted(file.name for file in whole.iterdir() if file.name != "manifest.json")
    assert names == sorted(file.name for file in path.iterdir() if file.name != "manifest.json")
    assert len(names) > 30
    for name in names:
        assert (path / name).read_bytes() == (whole / name).read_bytes()
    assert {**manifest(path)["metrics"], "made_with": 0} == {**manifest(whole)["metrics"], "made_with": 0}


def manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "manifest.json").read_text())
