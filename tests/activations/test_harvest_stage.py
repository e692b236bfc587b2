"""The stage says how far it is, what it left out and when the text was short."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import harvest
from sae.activations.reader import Activations
from sae.core.splits import SPLITS, Fractions
from sae.lm.load import LoadedModel
from sae.lm.tokens import Text

CONFIG = harvest.HarvestConfig(window=16, fractions=Fractions(train=0.6, validation=0.2, test=0.2))


class Heard:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.said: list[str] = []

    def update(self, done: int, total: int, unit: str, **values: float) -> None:
        assert 0 < done <= total
        assert unit == "tokens"
        self.done.append(done)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(("max_tokens", "short"), [(800, False), (100_000, True)])
def test_metrics_and_warning(
    loaded: LoadedModel, texts: list[Text], tmp_path: Path, max_tokens: int, short: bool
) -> None:
    inputs: Any = SimpleNamespace(
        sites=("embed", "blocks.0.resid_post"), max_tokens=max_tokens, model=lambda: loaded, texts=lambda: iter(texts)
    )
    heard = Heard()
    metrics = harvest.run(CONFIG, inputs, tmp_path, heard)
    assert json.loads(json.dumps(metrics)) == metrics
    assert heard.done == sorted(heard.done)
    assert heard.done[-1] == metrics["n_tokens"]
    assert bool(heard.said) == short
    assert metrics["n_tokens"] + metrics["n_tokens_missing"] == max_tokens
    activations = Activations(tmp_path)
    assert metrics["n_rows"] == {split: activations.n_rows(split) for split in SPLITS}
    assert sum(metrics["n_rows"].values()) + metrics["n_special_excluded"] == metrics["n_tokens"]
    assert metrics["sites"]["embed"]["d"] == 16
