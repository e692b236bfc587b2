"""A harvest by several processes, held by another, damaged: what the commands do, run inside this process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipelines.cli import main
from sae.activations.reader import Activations
from sae.core.artifact import Store
from sae.core.splits import SPLITS

SMALL = ["quickstart", "--text.max_tokens", "20_000", "--harvest.dtype", "float32", "--harvest.shard_rows", "4_000"]


class Done(NamedTuple):
    """What a command gave."""

    status: int
    result: dict[str, Any]
    said: str


def sae(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Done:
    """A command, run in this process."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, words), "--json"])
    out, said = capsys.readouterr()
    status = end.value.code
    assert isinstance(status, int)
    return Done(status, json.loads(out.splitlines()[-1]) if out else {}, said)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small harvest."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.raises(SystemExit) as end:
        main(["harvest", *SMALL, "--store", str(folder)])
    assert end.value.code == 0
    return folder


def artifact(store: Path) -> Path:
    (found,) = (store / "activations").iterdir()
    return found


def test_a_flipped_bit_is_found_named_and_repaired(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = artifact(made)
    shard = path / "train-00001.h5"
    good = shard.read_bytes()
    shard.write_bytes(good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 4]) + good[len(good) // 2 + 1 :])
    found = sae(capsys, "verify", path)
    assert found.status == 1
    assert found.result["damaged"] == ["train-00001.h5"]
    assert f"{shard} is damaged" in found.said
    untouched = {file: file.stat().st_mtime_ns for file in path.glob("*-*.h5") if file != shard}
    assert len(untouched) >= 5
    mended = sae(capsys, "harvest", *SMALL, "--store", made, "--repair")
    assert mended.status == 0
    assert "train-00001.h5 is damaged or missing, and is made again" in mended.said
    assert "other bytes" not in mended.said
    assert shard.read_bytes() == good
    assert {file: file.stat().st_mtime_ns for file in untouched} == untouched
    again = sae(capsys, "harvest", *SMALL, "--store", made, "--repair")
    assert again.result["reused"]
    assert "nothing to repair" in again.said
    assert sae(capsys, "verify", path).status == 0


@pytest.mark.parametrize("name", ["tokens.h5", "contents.json", "moments.safetensors", "health.json"])
def test_any_file_is_repaired(made: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    file = artifact(made) / name
    good = file.read_bytes()
    file.unlink()
    refused = sae(capsys, "harvest", *SMALL, "--store", made)
    assert refused.status == 1
    assert f"{file} is missing" in refused.said
    assert "--repair" in refused.said
    assert sae(capsys, "harvest", *SMALL, "--store", made, "--repair").status == 0
    assert file.read_bytes() == good


def test_parts_and_their_merge(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They give the rows of the whole, also where one is repaired; what is not there yet is said."""
    assert sae(capsys, "merge", *SMALL, "--store", tmp_path).said.count("there are no parts of this harvest") == 1
    first = sae(capsys, "harvest", *SMALL, "--part", "1/2", "--store", tmp_path)
    assert first.status == 0
    assert not first.result["reused"]
    early = sae(capsys, "merge", *SMALL, "--store", tmp_path)
    assert early.status == 1
    assert "of 2 parts 0 is not whole" in early.said
    small_batch = ("--harvest.batch", "7")
    assert not sae(capsys, "harvest", *SMALL, *small_batch, "--part", "0/2", "--store", tmp_path).result["reused"]
    assert sae(capsys, "harvest", *SMALL, "--part", "0/2", "--store", tmp_path).result["reused"]
    joined = sae(capsys, "merge", *SMALL, "--store", tmp_path)
    assert joined.result["stage"] == "merge"
    assert rows(artifact(tmp_path)) == rows(artifact(made))
    assert not list((tmp_path / ".building").glob("*.parts"))
    assert sae(capsys, "harvest", *SMALL, "--store", tmp_path).result["reused"]
    shard = next(artifact(tmp_path).glob("train-001-of-002-00000.h5"))
    good = shard.read_bytes()
    shard.write_bytes(good[:-9] + b"123456789")
    assert sae(capsys, "harvest", *SMALL, "--store", tmp_path, "--repair").status == 0
    assert shard.read_bytes() == good
    assert [maker["batch"] for maker in _made_with(tmp_path)] == [7, 32], "nothing of the first part was made again"
    shard.write_bytes(good[:-9] + b"123456789")
    assert sae(capsys, "harvest", *SMALL, "--store", tmp_path, "--repair", "--harvest.batch", "9").status == 0
    first, second = _made_with(tmp_path)
    assert (first["batch"], second["batch"], second["before_repair"]["batch"]) == (7, 9, 32)
    _repair_the_manifest(tmp_path, capsys)


def _made_with(store: Path) -> list[dict[str, Any]]:
    return json.loads((artifact(store) / "manifest.json").read_text())["metrics"]["made_with"]


def _repair_the_manifest(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A flipped bit of it is said, loses no shard, and is mended."""
    path = artifact(store)
    manifest = path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"metrics"', b'"metricr"'))
    for words in (("verify", path), ("harvest", *SMALL, "--store", store)):
        found = sae(capsys, *words)
        assert found.status == 1
        assert f"{manifest} is damaged; mend it with sae harvest CONFIG --repair" in found.said
    before = {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in path.glob("*-*.h5")}
    assert sae(capsys, "harvest", *SMALL, "--store", store, "--repair").status == 0
    assert {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in path.glob("*-*.h5")} == before
    assert sae(capsys, "verify", path).status == 0


def test_ranks_of_torchrun_share_a_harvest(made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pipelines", "harvest"]
    whole = [*command, *SMALL, "--store", str(tmp_path)]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert rows(Path(done.stdout.splitlines()[-1])) == rows(artifact(made))


def rows(path: Path) -> list[tuple[str, int, int]]:
    """Split, document and position of every row."""
    activations = Activations(path)
    found = []
    for split in SPLITS:
        places = zip(activations.documents(split).tolist(), activations.positions(split).tolist(), strict=True)
        found += [(split, *place) for place in places]
    return sorted(found)


def test_the_second_process_says_who_holds_it(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hash = artifact(made).name
    held = Store(tmp_path)
    with held.building("activations", hash):
        for part in ((), ("--part", "0/2")):
            refused = sae(capsys, "harvest", *SMALL, *part, "--store", tmp_path)
            assert refused.status == 1
            assert f"{hash} is being built by process {os.getpid()}" in refused.said
    with held.part(hash, "000-of-002"):
        early = sae(capsys, "merge", *SMALL, "--store", tmp_path)
        assert f"of 2 parts 0, 1 are not whole: wait for process {os.getpid()}" in early.said
        assert sae(capsys, "harvest", *SMALL, "--store", tmp_path).status == 1
        assert sae(capsys, "harvest", *SMALL, "--part", "0/2", "--store", tmp_path).status == 1
        assert sae(capsys, "harvest", *SMALL, "--part", "1/2", "--store", tmp_path).status == 0


@pytest.mark.parametrize(("words", "says"), [
    (["run", "--part", "0/2"], "--part belongs to sae harvest"),
    (["harvest", "--part", "2/2"], "i goes from 0 to n − 1"),
    (["harvest", "--part", "0/2", "--repair"], "leave --part out"),
    (["harvest", "--repair"], "to repair; make it without --repair"),
    (["harvest", "--part", "0/2", "--harvest.bos", "window"], "cannot be harvested in 2 parts"),
    (["harvest", "--harvest.exclude.high_norm", "0.5"], "0 (none) or more than 1"),
])  # fmt: skip
def test_wrong_input_is_status_2(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *flags = words
    done = sae(capsys, command, "quickstart", *flags, "--store", tmp_path)
    assert done.status == 2
    assert says in done.said
    assert len(done.said.strip().splitlines()) == 1
