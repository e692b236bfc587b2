"""Training measures how well its batches are mixed, when it begins, and keeps that in its log and metrics."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import train
from sae.activations.contents import FILE
from sae.core.artifact import Artifact
from sae.core.errors import InputError
from tests.activations.test_harvest_stage import Heard

CONFIG = train.TrainConfig(site="embed", d_sae=16, l0=2, tokens=4000, batch=100, seed=0, data_seed=0, log_every_steps=1)
MIXING = {"shuffle_quality", "batch_mean_autocorrelation", "batch_mean_autocorrelation_spread"}


def inputs_of(harvest: Path) -> Any:
    return SimpleNamespace(parents={"harvest": Artifact(harvest, {"files": {}})}, model_fingerprint=lambda: "0" * 64)


def test_mixing_is_logged_once_and_stands_in_the_metrics(
    tmp_path: Path, write_rows: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    harvest, folder = tmp_path / "harvest", tmp_path / "run"
    harvest.mkdir()
    folder.mkdir()
    write_rows(harvest, n_documents=200, length=10, sites={"embed": 8}, encoding="float32", shard_rows=1000)
    metrics = train.run(CONFIG, inputs_of(harvest), folder, Heard())
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(41))
    assert set(records[0]) == MIXING | {"step"}
    assert all(metrics[name] == records[0][name] for name in MIXING)
    assert metrics["shuffle_quality"] > 0.9
    assert abs(metrics["batch_mean_autocorrelation"]) < 5 * metrics["batch_mean_autocorrelation_spread"]
    monkeypatch.setattr(train, "shuffle_quality", lambda _: pytest.fail("it stands in the log"))
    again = train.run(CONFIG, inputs_of(harvest), folder, Heard())
    assert all(again[name] == metrics[name] for name in MIXING)


def test_a_train_split_without_rows_is_one_clear_line(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    write_rows(tmp_path, n_documents=40, length=10, sites={"embed": 8}, encoding="float32", shard_rows=1000)
    contents = json.loads((tmp_path / FILE).read_text())
    kept = [shard for shard in contents["shards"] if shard["split"] != "train"]
    (tmp_path / FILE).write_text(json.dumps(contents | {"shards": kept}))
    with pytest.raises(InputError, match=r"has no rows in its train split"):
        train.run(CONFIG, inputs_of(tmp_path), tmp_path, Heard())
