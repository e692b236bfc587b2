"""`sae evaluate CONFIG --compare`, run inside this process: members of a sweep, other configurations, folders."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from pipelines.cli import main
from sae.evaluation.comparison import Comparison

EXPERIMENT = {
    "site": ["blocks.1.resid_post", "blocks.2.resid_post"],
    "text": {"max_tokens": 40_000},
    "harvest": {"dtype": "float32"},
    "train": {"site": "blocks.1.resid_post", "d_sae": 64, "l0": 4, "batch": 256, "tokens": 10_000},
    "evaluate": {"max_tokens": 2_000, "n_resamples": 100, "probe_texts": 0},
}


class Done(NamedTuple):
    """What a command gave."""

    status: int
    result: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with experiments and their store, which the tests of this file share."""
    folder = tmp_path_factory.mktemp("compare")
    swept = {**EXPERIMENT["train"], "sweep": {"l0": [4, 8]}}
    denser = {**EXPERIMENT["train"], "l0": 8}
    elsewhere = {**EXPERIMENT["train"], "site": "blocks.2.resid_post"}
    for name, train in {"sweep": swept, "denser": denser, "elsewhere": elsewhere}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**EXPERIMENT, "train": train}))
    (folder / "sparser.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return folder


@pytest.fixture
def sae(home: Path, capsys: pytest.CaptureFixture[str]):
    """Runs a command on experiments by name, and folders by path."""

    def run(command: str, *words: str | Path) -> Done:
        named = [str(home / word) if str(word).endswith(".yaml") else str(word) for word in words]
        with pytest.raises(SystemExit) as end:
            main([command, *named, "--store", str(home / "store"), "--json"])
        out, said = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Done(end.value.code, json.loads(out.splitlines()[-1]) if out else {}, said)

    return run


@pytest.fixture(scope="module")
def swept(home: Path) -> dict[str, Any]:
    """The comparison of a sweep's members."""
    words = ["evaluate", str(home / "sweep.yaml"), "--compare", "--with-parents", "--store", str(home / "store")]
    with redirect_stdout(StringIO()) as out, pytest.raises(SystemExit) as end:
        main([*words, "--json"])
    assert end.value.code == 0
    return json.loads(out.getvalue().splitlines()[-1])


def test_the_members_of_a_sweep_are_compared_in_pairs(sae: Any, swept: dict[str, Any]):
    folder = Path(swept["path"])
    comparison = Comparison.model_validate_json((folder / "comparison.json").read_bytes())
    assert [entry.name for entry in comparison.dictionaries] == ["l0 = 4", "l0 = 8"]
    assert {(pair.first, pair.second) for pair in comparison.pairs} == {(0, 1)}
    assert swept["metrics"]["n_pairs"] == len(comparison.pairs)
    scores = [json.loads((Path(path) / "scores.json").read_text()) for path in swept["paths"]]
    fvu = [each["contenders"]["dictionary"]["fvu"]["value"] for each in scores]
    (pair,) = (pair for pair in comparison.pairs if pair.metric == "fvu")
    assert pair.difference.value == fvu[0] - fvu[1]
    assert pair.is_real
    assert pair.better == 1
    again = sae("evaluate", "sweep.yaml", "--compare")
    assert again.result == {**swept, "reused": True}
    for word in ("2 dictionaries", "l0 = 8", "differences are more than noise", "Pictures: "):
        assert word in again.said


def test_pictures_stand_alone(swept: dict[str, Any]):
    folder = Path(swept["path"])
    for name in ("front-fvu.svg", "front-delta-ce-nats.svg"):
        text = (folder / name).read_text()
        assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
        assert "http" not in text.removeprefix('<svg xmlns="http://www.w3.org/2000/svg"')
        assert (
            text.split(">", 1)[1].rstrip().removesuffix("</svg>\n").rstrip() in (folder / "comparison.html").read_text()
        )


def test_a_configuration_or_a_folder_stands_for_the_dictionary(sae: Any, swept: dict[str, Any]):
    dictionary = json.loads((Path(swept["paths"][1]) / "manifest.json").read_text())["parents"]["train"]
    folder = Path(swept["path"]).parents[1] / "dictionaries" / dictionary
    for other in ("denser.yaml", folder, swept["paths"][1]):
        assert sae("evaluate", "sparser.yaml", other, "--compare").result == {**swept, "reused": True}


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("evaluate", ["sparser.yaml", "--compare"], "at least two dictionaries, got 1"),
        ("evaluate", ["sparser.yaml", "denser.yaml"], "unexpected"),
        ("train", ["sweep.yaml", "--compare"], "--compare belongs to sae evaluate"),
        (
            "evaluate",
            ["sparser.yaml", "elsewhere.yaml", "--compare", "--with-parents"],
            "site = blocks.2.resid_post (dictionary ",
        ),
        ("evaluate", ["sweep.yaml", "--compare", "--evaluate.max_tokens", "90"], "at least 20 documents"),
        ("evaluate", ["sparser.yaml", "nowhere", "--compare"], "nowhere does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(sae: Any, swept: dict[str, Any], command: str, words: list[str], said: str):
    refused = sae(command, *words)
    assert refused.status == 2
    assert said in refused.said
    assert refused.said.rstrip().splitlines()[-1].startswith("sae: ")


def test_a_folder_of_something_else_is_refused(sae: Any, swept: dict[str, Any]):
    harvest = json.loads((Path(swept["paths"][0]) / "manifest.json").read_text())["parents"]["harvest"]
    activations = Path(swept["path"]).parents[1] / "activations" / harvest
    refused = sae("evaluate", "sparser.yaml", activations, "--compare")
    assert refused.status == 2
    assert "holds activations" in refused.said


def test_a_dictionary_of_other_activations_is_refused_with_both_named(sae: Any, swept: dict[str, Any]):
    other = sae("train", "sparser.yaml", "--with-parents", "--text.seed", "1")
    assert other.status == 0, other.said
    refused = sae("evaluate", "sparser.yaml", other.result["path"], "--compare")
    assert refused.status == 2
    harvest = json.loads((Path(swept["paths"][0]) / "manifest.json").read_text())["parents"]["harvest"]
    assert f"the first configuration reads {harvest}" in refused.said
