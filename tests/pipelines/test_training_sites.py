"""Transcoders, crosscoders, two models and fine-tuning through the command line, run inside this process."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from pipelines.cli import main
from sae.dictionary import load
from sae.lm.load import load_model
from sae.microworld import folder as microworld

IN, OUT, RESIDUAL = "blocks.1.mlp_in", "blocks.1.mlp_out", "blocks.1.resid_post"
SECTIONS = {
    "site": [IN, OUT, RESIDUAL],
    "text": {"max_tokens": 12_000},
    "harvest": {"dtype": "float32"},
    "train": {"d_sae": 64, "l0": 4, "batch": 256, "tokens": 10_000},
    "evaluate": {"max_tokens": 2_000, "n_resamples": 100, "probe_texts": 0},
    "catalogue": {"n_examples": 2},
}


class Done(NamedTuple):
    """What a command gave."""

    status: int
    result: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the experiment and its store, which the tests of this file share."""
    folder = tmp_path_factory.mktemp("sites")
    (folder / "three.yaml").write_text(yaml.safe_dump(SECTIONS))
    return folder


def sae(home: Path, capsys: pytest.CaptureFixture[str], *words: str | Path) -> Done:
    with pytest.raises(SystemExit) as end:
        main([str(words[0]), str(home / "three.yaml"), *map(str, words[1:]), "--store", str(home / "store"), "--json"])
    out, said = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return Done(end.value.code, json.loads(out.splitlines()[-1]) if out else {}, said)


def trained(home: Path, capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[Path, dict[str, Any]]:
    done = sae(home, capsys, "train", "--with-parents", *words)
    assert done.status == 0, done.said
    return Path(done.result["path"]), done.result["metrics"]


def test_a_transcoder_reads_one_site_and_is_spliced_in_at_another(home: Path, capsys: pytest.CaptureFixture[str]):
    words = ("--train.preset", "transcoder", "--train.site", IN, "--train.target", OUT, "--train.skip", "true")
    done = sae(home, capsys, "run", *words)
    assert done.status == 0, done.said
    dictionary = load(Path(done.result["artifacts"]["train"]))
    assert (dictionary.config.site, dictionary.config.target, dictionary.config.skip) == (IN, OUT, True)
    scores = json.loads((Path(done.result["artifacts"]["evaluate"]) / "scores.json").read_text())
    assert scores["site"] == f"{IN} → {OUT}"
    fvu = {name: scores["contenders"][name]["fvu"]["value"] for name in ("dictionary", "untrained")}
    assert fvu["dictionary"] < fvu["untrained"]
    refused = sae(home, capsys, "steer", *words)
    assert refused.status == 2
    assert "not for preset transcoder" in refused.said


def test_a_pair_of_sites_is_a_transcoders(home: Path, capsys: pytest.CaptureFixture[str]):
    path, _ = trained(home, capsys, "--site", f"{{source: {IN}, target: {RESIDUAL}}}", "--train.preset", "transcoder")
    assert (load(path).config.site, load(path).config.target) == (IN, RESIDUAL)


def test_a_crosscoder_takes_all_sites(home: Path, capsys: pytest.CaptureFixture[str]):
    done = sae(home, capsys, "run", "--train.preset", "crosscoder")
    assert done.status == 0, done.said
    config = load(Path(done.result["artifacts"]["train"])).config
    assert [part.site for part in config.parts] == [IN, OUT, RESIDUAL]
    scores = json.loads((Path(done.result["artifacts"]["evaluate"]) / "scores.json").read_text())
    fvu = {name: scores["contenders"][name]["fvu"]["value"] for name in ("dictionary", "mean_ablation")}
    assert fvu["dictionary"] < fvu["mean_ablation"]


def test_a_crosscoder_of_two_models(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The second is the first with moved weights; its harvest is named by its folder and hashed by its content."""
    other: Any = load_model(str(microworld()))
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    other.model.save_pretrained(tmp_path / "moved")
    other.tokenizer.save_pretrained(tmp_path / "moved")
    second = sae(home, capsys, "harvest", "--model", tmp_path / "moved", "--train.preset", "crosscoder")
    assert second.status == 0, second.said
    words = ("--train.preset", "crosscoder", "--train.beside", second.result["path"])
    path, _ = trained(home, capsys, *words)
    parts = load(path).config.parts
    assert [part.site for part in parts] == [IN, OUT, RESIDUAL] * 2
    assert len({part.model for part in parts}) == 2
    refused = sae(home, capsys, "evaluate", *words)
    assert refused.status == 2
    assert "two models" in refused.said
    short = sae(home, capsys, "harvest", "--text.max_tokens", "6_000", "--train.preset", "crosscoder")
    unlike = sae(home, capsys, "train", "--train.preset", "crosscoder", "--train.beside", short.result["path"])
    assert unlike.status == 2
    assert "hold other tokens" in unlike.said


def test_fine_tuning_goes_on_from_a_dictionary(home: Path, capsys: pytest.CaptureFixture[str]):
    first, before = trained(home, capsys, "--train.site", RESIDUAL)
    words = ("--train.site", RESIDUAL, "--train.start_from", first, "--train.tokens", "2_560")
    second, after = trained(home, capsys, *words)
    assert second != first
    assert after["last_validation_fvu"] < 1.1 * before["last_validation_fvu"]
    fresh = trained(home, capsys, "--train.site", RESIDUAL, "--train.tokens", "2_560")[1]
    assert after["last_validation_fvu"] < fresh["last_validation_fvu"]
    assert torch.equal(load(second / "untrained").W_dec, load(first).W_dec)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--train.preset", "transcoder", "--train.site", IN), "train.target must name one of"),
        (("--train.preset", "transcoder", "--train.site", IN, "--train.target", "embed"), "'embed' is not harvested"),
        (("--train.site", IN, "--train.target", OUT), "target belongs to preset transcoder"),
        (("--train.preset", "crosscoder", "--train.site", IN), "a crosscoder takes all harvested sites"),
        ((), "train.site must name one of"),
        (("--train.site", IN, "--train.skip", "true"), "skip belongs to preset transcoder"),
        (("--train.site", IN, "--train.start_from", "nowhere"), "is no dictionary"),
        (("--train.site", IN, "--train.l0", "65"), "l0 65 is larger than d_sae 64"),
    ],
)
def test_what_does_not_go_together_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
):
    done = sae(home, capsys, "train", "--with-parents", *words)
    assert done.status == 2
    assert expected in done.said
    assert done.said.splitlines()[-1].startswith("sae: ")


def test_a_dictionary_of_another_site_or_size_is_no_start(home: Path, capsys: pytest.CaptureFixture[str]):
    first, _ = trained(home, capsys, "--train.site", RESIDUAL)
    for words, expected in (
        (("--train.site", OUT), f"has site {RESIDUAL}, the run {OUT}"),
        (("--train.site", RESIDUAL, "--train.d_sae", "32"), "has d_sae 64, the run 32"),
        (("--train.site", RESIDUAL, "--train.preset", "batchtopk"), "has activation topk, the run batchtopk"),
    ):
        done = sae(home, capsys, "train", *words, "--train.start_from", first)
        assert done.status == 2
        assert expected in done.said


def test_a_flipped_bit_in_the_harvest_is_refused(home: Path, capsys: pytest.CaptureFixture[str]):
    """Even where it only changes a number: the dictionary would bear the hash of the whole harvest."""
    trained(home, capsys, "--train.site", RESIDUAL)
    shards = list((home / "store" / "activations").glob("*/train-00000.h5"))
    good = [shard.read_bytes() for shard in shards]
    for shard, whole in zip(shards, good, strict=True):
        middle = len(whole) // 2
        shard.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    done = sae(home, capsys, "train", "--train.site", RESIDUAL, "--train.seed", "9")
    for shard, whole in zip(shards, good, strict=True):
        shard.write_bytes(whole)
    assert done.status == 1
    assert "train-00000.h5 is damaged; sae harvest CONFIG --repair" in done.said
