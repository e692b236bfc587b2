"""The evaluate stage from artifacts to scores.json."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipelines.evaluate import SCORECARD, EvaluateConfig, run
from pipelines.stage import Inputs, Progress
from sae.activations.reader import Activations
from sae.core.measures import fvu
from sae.dictionary import load
from sae.evaluation.scorecard import read

CONFIG = EvaluateConfig(n_resamples=100)


@pytest.fixture(scope="module")
def done(inputs: Inputs, progress: Progress, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("evaluate")
    return folder, run(CONFIG, inputs, folder, progress)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def test_scores_are_those_of_the_stored_rows(done: tuple[Path, dict[str, Any]], inputs: Inputs):
    """The model is read again in float32; the rows were stored in half precision."""
    folder, metrics = done
    activations = Activations(inputs.parents["harvest"].path)
    dictionary = load(inputs.parents["train"].path).requires_grad_(False)
    rows = activations.rows("test", dictionary.config.site or "")
    assert metrics["fvu"] == pytest.approx(fvu(rows, dictionary(rows)), rel=1e-2)
    assert metrics["n_tokens"] == len(rows)
    fires = (dictionary.encode(rows).dense() > 0).any(0)
    assert metrics["dead_fraction"] == pytest.approx(1 - float(fires.double().mean()), abs=1e-9)
    assert read(folder).n_documents == len(set(activations.tokens.source[activations.documents("test")]))


def test_every_contender_has_every_number(done: tuple[Path, dict[str, Any]]):
    folder, metrics = done
    scores = json.loads((folder / "scores.json").read_text())
    assert list(scores["contenders"]) == [
        "dictionary", "untrained", "pca", "resample_ablation", "mean_ablation", "zero_ablation"
    ]  # fmt: skip
    assert list(scores["differences"]) == list(scores["contenders"])[1:]
    more = {"ce_nats", "cosine", "relative_norm", "l0_std", "ce_loss_recovered_mean", "ce_loss_recovered_resample"}
    assert {*SCORECARD, *more} == set(scores["contenders"]["dictionary"])
    zero = {"value": 0, "low": 0, "high": 0, "detectable": 0}
    assert scores["contenders"]["zero_ablation"]["ce_loss_recovered"] == zero
    assert list(scores["densities"]) == list(scores["geometry"]) == ["dictionary", "untrained"]
    assert scores["geometry"]["dictionary"]["encoder_decoder_cosine"]["p50"] == pytest.approx(1)
    assert scores["split"] == "test"
    assert scores["settings"]["pca_components"] == 4
    assert set(metrics) == {*SCORECARD, "n_tokens"}
    assert finite(scores)
    assert finite(json.loads((folder / "rows.json").read_text()))


def test_the_same_inputs_give_the_same_bytes(
    done: tuple[Path, dict[str, Any]], inputs: Inputs, progress: Progress, tmp_path: Path
):
    folder, metrics = done
    assert run(CONFIG, inputs, tmp_path, progress) == metrics
    for name in ("scores.json", "rows.json", "documents.h5", "resamples.h5"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_cap_on_tokens_takes_whole_documents_and_says_so(inputs: Inputs, progress: Progress, tmp_path: Path):
    metrics = run(EvaluateConfig(n_resamples=100, max_tokens=300), inputs, tmp_path, progress)
    assert 200 < metrics["n_tokens"] <= 300
    card = read(tmp_path)
    assert "the first" in card.notes[0]
    assert card.n_tokens == metrics["n_tokens"]


def test_one_document_gives_values_without_intervals(inputs: Inputs, progress: Progress, tmp_path: Path):
    run(EvaluateConfig(n_resamples=100, max_tokens=1), inputs, tmp_path, progress)
    card = read(tmp_path)
    assert card.n_documents == 1
    own = card.contenders["dictionary"]["fvu"]
    assert own.value is not None
    assert own.low is None
    assert any("at least two documents" in note for note in card.notes)
