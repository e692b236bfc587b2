"""Nothing is lost: a killed training run goes on to the same bits, an interrupted one says how to go on."""

import json
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.conftest import SAE, SMALL, Sae

RUN = ["--train.checkpoint_every_tokens", "20_000", "--train.tokens", "400_000", "--train.seed", "7"]


def start(store: Path) -> subprocess.Popen[str]:
    command = [*SAE, "train", "quickstart", *SMALL, *RUN, "--store", str(store)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for_checkpoint(store: Path, process: subprocess.Popen[str], n: int) -> None:
    """Until the run has passed its n-th checkpoint."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        steps = [int(path.name.split("-")[1]) for path in (store / ".building").glob("*/checkpoints/step-*")]
        if steps and max(steps) >= n * 20:
            return
        time.sleep(0.02)
    raise AssertionError("no checkpoint was written")


@pytest.fixture(scope="module")
def uninterrupted(quickstart: dict[str, Any], sae: Sae, store: Path) -> Path:
    return Path(sae("train", "quickstart", *SMALL, *RUN, "--store", store)["path"])


@pytest.fixture
def fresh(quickstart: dict[str, Any], store: Path, tmp_path: Path) -> Path:
    """A store with the same harvest and nothing else."""
    (tmp_path / "activations").symlink_to(store / "activations")
    return tmp_path


def test_killed_runs_end_with_the_same_bits(uninterrupted: Path, fresh: Path, sae: Sae) -> None:
    for n in (2, 6, 12):
        with start(fresh) as process:
            wait_for_checkpoint(fresh, process, n)
            process.kill()
        assert not (fresh / "dictionaries").exists()
    resumed = sae("train", "quickstart", *SMALL, *RUN, "--store", fresh)
    assert "resuming at step" in resumed["said"]
    for name in ("weights.safetensors", "untrained/weights.safetensors", "config.yaml"):
        assert (Path(resumed["path"]) / name).read_bytes() == (uninterrupted / name).read_bytes()
    steps = [line.split(",")[0] for line in (Path(resumed["path"]) / "metrics.jsonl").read_text().splitlines()]
    assert steps == [line.split(",")[0] for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_saves_and_says_how_to_go_on(
    uninterrupted: Path, fresh: Path, sae: Sae, number: signal.Signals
) -> None:
    with start(fresh) as process:
        wait_for_checkpoint(fresh, process, 1)
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert "checkpoint written at step" in said
    assert "to go on: sae train quickstart" in said
    resumed = sae("train", "quickstart", *SMALL, *RUN, "--store", fresh)
    assert (Path(resumed["path"]) / "weights.safetensors").read_bytes() == (
        uninterrupted / "weights.safetensors"
    ).read_bytes()


def test_a_full_disk_is_status_1_and_one_line_and_goes_on_with_room(sae: Sae, tmp_path: Path) -> None:
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
    made = sae(*words)
    assert not made["reused"]
    assert sae("verify", made["path"])["damaged"] == []


HARVEST = ["harvest", "quickstart", "--text.max_tokens", "150_000", "--harvest.shard_rows", "4_000"]


def n_shards(store: Path) -> int:
    return len(list((store / ".building").glob("*/*-*.h5")))


def test_a_harvest_that_is_killed_ends_with_the_same_bits(sae: Sae, tmp_path: Path) -> None:
    whole, store = Path(sae(*HARVEST, "--store", tmp_path / "whole")["path"]), tmp_path / "killed"
    kept = 0
    for _ in range(3):
        command = [*SAE, *HARVEST, "--store", str(store)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and n_shards(store) < kept + 4:
                time.sleep(0.02)
            process.kill()
        assert n_shards(store) >= kept + 4
        kept = n_shards(store)
        assert not (store / "activations").exists()
    resumed = sae(*HARVEST, "--store", store)
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
