"""A plan: disk within 5 % of what a harvest then takes, sane numbers beside it, and a refusal of what cannot fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import capacity, plan_harvest, plan_train
from pipelines.cli import main
from pipelines.config import TextConfig
from pipelines.plan_text import Drawn, most_tokens, spread
from sae.core.splits import SPLITS, Fractions, split_of
from sae.lm.corpus import Text

N_TOKENS = 30_000
SMALL = f"""
site: blocks.0.resid_post
text: {{max_tokens: {N_TOKENS}}}
harvest: {{}}
train: {{d_sae: 64, l0: 4, tokens: 20_000}}
"""
THREE = ["--site", "[embed, blocks.0.resid_pre, blocks.0.resid_post]", "--train.site", "blocks.0.resid_post"]
HARVESTS = {
    "float16": [],
    "int8": ["--harvest.dtype", "int8"],
    "three sites in small shards": [*THREE, "--harvest.shard_rows", "10_000"],
}

Sae = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def sae(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sae:
    """Runs a command on a small experiment with little time to measure; gives its status, record and words."""
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(SMALL)
    monkeypatch.setattr(plan_harvest, "SECONDS_DRAWING", 0.2)
    monkeypatch.setattr(plan_harvest, "SECONDS_HARVESTING", 0.4)
    monkeypatch.setattr(plan_train, "SECONDS_STEPPING", 0.1)

    def run(command: str, *words: str) -> tuple[int, dict[str, Any], str]:
        with pytest.raises(SystemExit) as exit:
            main([command, str(experiment), *words, "--store", str(tmp_path / "store"), "--json"])
        out, err = capsys.readouterr()
        assert isinstance(exit.value.code, int)
        return exit.value.code, json.loads(out.splitlines()[-1]), err

    return run


@pytest.mark.parametrize("words", HARVESTS.values(), ids=HARVESTS.keys())
def test_disk_is_predicted(sae: Sae, words: list[str]) -> None:
    status, plan, err = sae("plan", *words)
    assert status == 0, err
    assert plan["fits"]
    assert plan["short_of"] == []
    assert plan["tokens"] == N_TOKENS
    predicted = plan["harvest"]["bytes_on_disk"]
    happened = sae("harvest", *words)[1]["metrics"]["bytes_on_disk"]
    assert predicted == pytest.approx(happened, rel=0.05)
    assert plan["bytes_on_disk"] == predicted + plan["train"][0]["bytes_on_disk"]
    assert plan["harvest"]["largest_file"] < predicted
    assert plan["harvest"]["n_rows"] < N_TOKENS
    assert 0 < plan["harvest"]["seconds"] < plan["seconds"] < 600
    assert 50e6 < plan["peak_bytes"] < 20e9


def test_a_plan_leaves_nothing_and_knows_what_is_there(sae: Sae, tmp_path: Path) -> None:
    first = sae("plan", "--evaluate", "{}", "--report", "{}")[1]
    assert not first["reused"]
    assert [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()] == ["plan.lock"]
    assert first["not_predicted"] == ["evaluate", "report"]
    sae("harvest")
    second = sae("plan")[1]
    assert second["harvest"] is None
    assert len(second["train"]) == 1
    sae("train")
    third = sae("plan")[1]
    assert third["reused"]
    assert third["fits"]
    assert third["seconds"] == third["seconds_at_most"] == third["bytes_on_disk"] == 0


def test_every_member_of_a_sweep_is_counted(sae: Sae) -> None:
    plan = sae("plan", "--train.sweep", "{accumulate: [1, 64], d_sae: [64, 128], seed: [0, 1]}")[1]
    sizes = [one["n_parameters"] for one in plan["train"]]
    assert len(sizes) == 8
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3]
    times = [one["seconds"] for one in plan["train"]]
    assert times[0] == times[1] < times[4] == times[5], "a step in 64 pieces takes longer than one in a piece"
    assert all(one["seconds"] <= one["seconds_at_most"] for one in plan["train"])
    assert plan["seconds"] <= plan["seconds_at_most"]
    total = plan["harvest"]["bytes_on_disk"] + sum(one["bytes_on_disk"] for one in plan["train"])
    assert plan["bytes_on_disk"] == total


def test_what_cannot_fit_is_refused_with_its_numbers(sae: Sae, monkeypatch: pytest.MonkeyPatch) -> None:
    status, plan, err = sae("plan", "--train.d_sae", "1_000_000_000")
    assert status == 1
    assert not plan["fits"]
    assert plan["seconds"] is None
    assert plan["seconds_at_most"] is None
    assert "it does not fit: train needs 4.1" in err
    monkeypatch.setattr(capacity, "free_bytes", lambda folder: 1_000_000)
    monkeypatch.setattr(capacity, "largest_file", lambda: 2_000_000)
    status, plan, err = sae("plan")
    assert status == 1
    assert len(plan["short_of"]) == 2
    assert "of disk are needed" in err
    assert "1 MB are free" in err
    assert "a file may have 2 MB here" in err


def test_a_sample_reaches_every_split() -> None:
    fractions = Fractions()
    texts = spread([Text("a" * 1000)], 100, fractions)
    assert "".join(text.text for text in texts) == "a" * 1000
    assert {split_of(text.group or "", fractions) for text in texts} == set(SPLITS)


def test_text_that_ends_is_counted_and_files_bound_the_rest(tmp_path: Path) -> None:
    text = TextConfig(source=str(tmp_path / "a.txt"), max_tokens=1000)
    (tmp_path / "a.txt").write_text("b" * 400)
    assert most_tokens(text, Drawn(n_tokens=70, n_bytes=300, ended=True)) == 70
    assert most_tokens(text, Drawn(n_tokens=50, n_bytes=100)) == 200
    assert most_tokens(TextConfig(max_tokens=1000), Drawn(n_tokens=50, n_bytes=100)) == 1000


def test_memory_is_measured() -> None:
    held = capacity.resident_bytes()
    capacity.forget_peak()
    block = bytearray(50_000_000)
    assert capacity.peak_bytes() >= held + len(block) // 2
    assert capacity.available_bytes() > held
