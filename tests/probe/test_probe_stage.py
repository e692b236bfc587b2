"""The probe stage: its files can be read back, and bad input is one clear line."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

from pipelines.probe import ProbeConfig, run
from sae import microworld
from sae.core.artifact import Artifact
from sae.core.errors import InputError, WorldError
from sae.core.records import LabelledText, read_findings
from sae.dictionary import Dictionary, DictionaryConfig, TopK
from sae.lm.load import LoadedModel
from sae.probe.selection import DIRECTIONS, direction_key, read_selection

SITE = "blocks.1.resid_post"


class Silent:
    """A progress that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def update(self, done: int, total: int, unit: str, **values: float) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("train")
    config = DictionaryConfig(d_in=128, d_out=128, d_sae=64, activation=TopK(k=8), site=SITE)
    dictionary = Dictionary(config)
    rows = torch.nn.functional.normalize(torch.randn(64, 128, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        dictionary.W_dec.copy_(rows)
        dictionary.encoder_rows.copy_(rows)
    dictionary.save(folder)
    dictionary.save(folder / "untrained")
    return Artifact(folder, {"hash": "d" * 16})


def inputs(train: Artifact, texts: list[LabelledText]) -> Any:
    loaded = LoadedModel(microworld.untrained(0).requires_grad_(False).eval(), microworld.tokenizer(), "f", "random")
    return SimpleNamespace(
        seed=0, sites=(SITE,), parents={"train": train}, model=lambda: loaded, concepts=lambda: texts
    )


def test_the_files_can_be_read_back_and_a_run_repeats_to_the_byte(train: Artifact, tmp_path: Path):
    texts = microworld.labelled("number", 100, seed=0) + microworld.labelled("sentiment", 100, seed=0)
    given = inputs(train, texts)
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    metrics, _ = [run(ProbeConfig(), given, folder, Silent()) for folder in folders]
    selection, findings = read_selection(folders[0]), read_findings(folders[0] / "findings.jsonl")
    assert selection.site == SITE
    assert list(selection.variables) == ["number", "sentiment"]
    assert len(findings) == metrics["n_findings"] == 2 * (5 + 3)
    for variable, chosen in selection.variables.items():
        (target,) = chosen.tasks
        assert load_file(folders[0] / DIRECTIONS)[direction_key(variable, target)].shape == (128,)
    assert all((folders[1] / f.name).read_bytes() == f.read_bytes() for f in folders[0].iterdir())


def test_bad_input_is_one_line(train: Artifact, tmp_path: Path):
    few = microworld.labelled("number", 4, seed=0)
    with pytest.raises(InputError, match="did you mean 'number'"):
        run(ProbeConfig(variables=("numbr",)), inputs(train, few), tmp_path, Silent())
    progress = Silent()
    with pytest.raises(InputError, match="give more texts"):
        run(ProbeConfig(), inputs(train, few), tmp_path, progress)
    assert "left out" in progress.said[0]
    with pytest.raises(WorldError, match=r"selection\.json"):
        read_selection(tmp_path)


def test_only_variables_with_a_consequence_can_be_steered(train: Artifact, tmp_path: Path):
    bare = [t.model_copy(update={"consequence": None}) for t in microworld.labelled("sentiment", 100, seed=0)]
    run(ProbeConfig(), inputs(train, microworld.labelled("number", 100, seed=0) + bare), tmp_path, Silent())
    selection = read_selection(tmp_path)
    assert selection.steerable() == ["number"]
    with pytest.raises(InputError, match="there are number"):
        selection.steerable(("sentiment",))
