"""`sae train` by two processes: one artifact for each member, the dictionary that one process trains."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import sae
from pipelines.cli import main

SMALL = [
    "quickstart", "--text.max_tokens", "20_000", "--train.d_sae", "128", "--train.l0", "8", "--train.tokens", "30_000",
    "--train.batch", "1023", "--train.checkpoint_every_tokens", "10_000", "--train.sweep", "{seed: [0, 1]}",
]  # fmt: skip
"""Two ranks have 511 and 512 rows of every batch."""


def run(*words: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    return end.value.code


@pytest.fixture(scope="module")
def harvested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("harvested")
    assert run("harvest", *SMALL, "--store", store) == 0
    return store


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_two_processes_make_the_dictionaries_of_one(harvested: Path, two_processes, tmp_path: Path) -> None:
    ranks = tmp_path / "ranks"
    shutil.copytree(harvested, ranks)
    two_processes("-m", "pipelines", "train", *SMALL, "--store", ranks)
    assert run("train", *SMALL, "--store", harvested) == 0
    ours = sorted((ranks / "dictionaries").iterdir())
    theirs = sorted((harvested / "dictionaries").iterdir())
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert len(ours) == 2
    for here, there in zip(ours, theirs, strict=True):
        assert sorted(path.name for path in here.rglob("*")) == sorted(path.name for path in there.rglob("*"))
        for a, b in zip(sae.load(here).parameters(), sae.load(there).parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        for mine, single in zip(log(here), log(there), strict=True):
            assert mine.keys() == single.keys()
            assert mine["step"] == single["step"]
            assert mine.get("fvu", 0) == pytest.approx(single.get("fvu", 0), rel=1e-3)
            assert mine.get("shuffle_quality") == single.get("shuffle_quality")
    assert not list((ranks / ".building").glob("*/"))


@pytest.mark.parametrize("words", [["run"], ["evaluate"], ["train", "--with-parents"]])
def test_what_processes_cannot_share_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert run(*words, *SMALL, "--store", tmp_path) == 2
    assert "under torchrun sae harvest and sae train share their work" in capsys.readouterr().err
