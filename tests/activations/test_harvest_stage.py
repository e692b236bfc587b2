"""The stage says how far it is, what it left out and when the text was short."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines import harvest
from sae.activations.reader import Activations
from sae.core.artifact import to_publish
from sae.core.splits import SPLITS, Fractions
from sae.lm.corpus import Corpus, Text
from sae.lm.load import LoadedModel

CONFIG = harvest.HarvestConfig(window=16, fractions=Fractions(train=0.6, validation=0.2, test=0.2))


class Heard:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.said: list[str] = []
        self.values: dict[str, float] = {}

    def update(self, done: int, total: int, unit: str, **values: float) -> None:
        assert 0 < done <= total
        assert unit == "tokens"
        self.done.append(done)
        self.values = values

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(("max_tokens", "short"), [(800, False), (100_000, True)])
def test_metrics_and_warning(
    loaded: LoadedModel, texts: list[Text], tmp_path: Path, max_tokens: int, short: bool
) -> None:
    inputs: Any = SimpleNamespace(
        sites=("embed", "blocks.0.resid_post"), max_tokens=max_tokens, model=lambda: loaded, texts=lambda: Corpus(texts)
    )
    heard = Heard()
    metrics = harvest.run(CONFIG, inputs, tmp_path, heard)
    assert {"documents", "duplicates", "waste"} <= set(heard.values)
    assert json.loads(json.dumps(metrics)) == metrics
    assert heard.done == sorted(heard.done)
    assert heard.done[-1] == metrics["n_tokens"]
    assert ("the text ended after" in heard.said[-1]) == short
    assert metrics["n_tokens"] + metrics["n_tokens_missing"] == max_tokens
    activations = Activations(tmp_path)
    assert metrics["n_rows"] == {split: activations.n_rows(split) for split in SPLITS}
    assert sum(metrics["n_rows"].values()) + metrics["n_special_excluded"] == metrics["n_tokens"]
    assert metrics["sites"]["embed"]["d"] == 16


def test_the_ratio_of_compression_stands_in_the_metrics(loaded: LoadedModel, texts: list[Text], tmp_path: Path) -> None:
    inputs: Any = SimpleNamespace(sites=("embed",), max_tokens=10**6, model=lambda: loaded, texts=lambda: Corpus(texts))
    metrics, rows = {}, {}
    for name in ("none", "zstd"):
        folder = tmp_path / name
        folder.mkdir()
        metrics[name] = harvest.run(CONFIG.model_copy(update={"compression": name}), inputs, folder, Heard())
        rows[name] = Activations(folder).rows("train", "embed")
        on_disk = sum(file.stat().st_size for file in to_publish(folder).values())
        assert metrics[name]["bytes_on_disk"] == on_disk
    assert torch.equal(rows["none"], rows["zstd"])
    assert metrics["zstd"]["bytes_per_raw_byte"] < metrics["none"]["bytes_per_raw_byte"]


def test_everything_is_counted(loaded: LoadedModel, texts: list[Text], tmp_path: Path) -> None:
    """Texts are empty, dropped or documents; tokens are rows or excluded; the windows' waste is what was padded."""
    corpus = Corpus([*texts, Text(" "), texts[0], Text(""), texts[1], texts[0]], buffer=1000)
    inputs: Any = SimpleNamespace(sites=("embed",), max_tokens=10_000, model=lambda: loaded, texts=lambda: corpus)
    heard = Heard()
    metrics = harvest.run(CONFIG, inputs, tmp_path, heard)
    distinct = {text.text for text in texts}
    assert metrics["n_texts"] == len(texts) + 5
    assert (metrics["n_empty"], metrics["n_duplicates"]) == (2, len(texts) + 3 - len(distinct))
    assert metrics["n_documents"] == len(distinct) == metrics["n_special"]
    assert metrics["n_tokens"] == sum(1 + len(text.split()) for text in distinct)
    assert metrics["n_pieces"] == sum(-(-(1 + len(text.split())) // 16) for text in distinct)
    assert metrics["rows"] == "isolated"
    assert metrics["order"] == {"shuffled": True, "buffer_texts": 1000, "seed": 0, "uniform": True}
    assert 0 < metrics["waste_fraction"] < 0.3
    said = heard.said[0]
    assert f"{len(texts) + 5} texts, 2 empty, {metrics['n_duplicates']} duplicates dropped" in said
    assert f"{len(distinct)} documents in {metrics['n_pieces']} pieces, isolated from one another" in said


def test_the_order_of_a_corpus_as_it_is(loaded: LoadedModel, texts: list[Text], tmp_path: Path) -> None:
    inputs: Any = SimpleNamespace(
        sites=("embed",), max_tokens=10_000, model=lambda: loaded, texts=lambda: Corpus(texts)
    )
    assert harvest.run(CONFIG, inputs, tmp_path, Heard())["order"] == {"shuffled": False}
    assert Activations(tmp_path).tokens.source.tolist() == sorted(Activations(tmp_path).tokens.source.tolist())
