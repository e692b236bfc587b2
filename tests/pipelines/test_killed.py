"""Nothing is lost: a killed training run goes on to the same bits, an interrupted one says how to go on."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sae.activations.reader import Activations
from sae.core.splits import SPLITS
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


def test_a_full_disk_is_status_1_and_one_line(tmp_path: Path) -> None:
    harvest = " ".join(["harvest", "quickstart", "--text.max_tokens", "100_000", "--store", str(tmp_path)])
    command = f'ulimit -f 2000; exec {shlex.quote(SAE[0])} -c "{SAE[2]}" {harvest}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if not line.startswith("  harvest ")]
    assert len(said) == 1
    assert "File too large" in said[0]
    assert "to go on: sae harvest quickstart" in said[0]
    assert not (tmp_path / "activations").exists()


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


def test_a_flipped_bit_is_found_named_and_repaired(sae: Sae, tmp_path: Path) -> None:
    small = ["harvest", "quickstart", "--text.max_tokens", "20_000", "--harvest.shard_rows", "4_000"]
    path = Path(sae(*small, "--store", tmp_path)["path"])
    shard = path / "train-00001.h5"
    good = shard.read_bytes()
    shard.write_bytes(good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 4]) + good[len(good) // 2 + 1 :])
    found = subprocess.run([*SAE, "verify", str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert f"{shard} is damaged" in found.stderr
    untouched = {file: file.stat().st_mtime_ns for file in path.glob("*-*.h5") if file != shard}
    assert len(untouched) >= 5
    mended = sae(*small, "--store", tmp_path, "--repair")
    assert "train-00001.h5 is damaged and is made again" in mended["said"]
    assert "other bytes" not in mended["said"]
    assert shard.read_bytes() == good
    assert {file: file.stat().st_mtime_ns for file in untouched} == untouched
    assert "nothing to repair" in sae(*small, "--store", tmp_path, "--repair")["said"]
    assert subprocess.run([*SAE, "verify", str(path)], check=False, capture_output=True).returncode == 0


def test_parts_and_their_merge_and_the_ranks_of_torchrun(sae: Sae, tmp_path: Path) -> None:
    """All give the rows of the whole; what is held by another process or not there yet is said."""
    small = ["quickstart", "--text.max_tokens", "20_000", "--harvest.dtype", "float32"]
    whole = rows(Path(sae("harvest", *small, "--store", tmp_path / "whole")["path"]))
    parts = tmp_path / "parts"
    sae("harvest", *small, "--part", "1/2", "--store", parts)
    early = subprocess.run([*SAE, "merge", *small, "--store", str(parts)], capture_output=True, text=True, check=False)
    assert early.returncode == 1
    assert "of 2 parts 0 is not whole" in early.stderr
    assert not sae("harvest", *small, "--part", "0/2", "--store", parts)["reused"]
    assert sae("harvest", *small, "--part", "0/2", "--store", parts)["reused"]
    joined = sae("merge", *small, "--store", parts)
    assert joined["stage"] == "merge"
    assert rows(Path(joined["path"])) == whole
    assert not list((parts / ".building").glob("*.parts"))
    assert sae("harvest", *small, "--store", parts)["reused"]
    ranks = tmp_path / "ranks"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pipelines", "harvest"]
    done = subprocess.run(
        [*command, *small, "--store", str(ranks)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert rows(Path(done.stdout.splitlines()[-1])) == whole


def rows(path: Path) -> list[tuple[str, int, int]]:
    """Split, document and position of every row."""
    activations = Activations(path)
    found = []
    for split in SPLITS:
        places = zip(activations.documents(split).tolist(), activations.positions(split).tolist(), strict=True)
        found += [(split, *place) for place in places]
    return sorted(found)


def test_the_second_process_says_who_holds_it(tmp_path: Path) -> None:
    command = [*SAE, *HARVEST, "--store", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as first:
        while first.poll() is None and n_shards(tmp_path) < 1:
            time.sleep(0.02)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        part = subprocess.run([*command, "--part", "0/2"], capture_output=True, text=True, check=False)
        first.kill()
    for refused in (second, part):
        assert refused.returncode == 1
        assert f"is being built by process {first.pid}" in refused.stderr
