"""The shipped model: it loads as any other, fits its limits, and speaks the language."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from sae.microworld import documents, folder, labelled, tokenizer, twin_of, untrained, vocabulary
from sae.microworld.score import score

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_microworld.py"


@pytest.fixture(scope="module")
def shipped() -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder())


def test_the_shipped_tokenizer_is_the_languages():
    loaded = AutoTokenizer.from_pretrained(folder())
    assert loaded.get_vocab() == vocabulary() == tokenizer().get_vocab()


def test_tokens_are_words_after_a_beginning():
    loaded = AutoTokenizer.from_pretrained(folder())
    for document in documents(seed=2, n_tokens=2000):
        ids = loaded(document.text)["input_ids"]
        assert ids[0] == loaded.bos_token_id
        assert len(ids) == 1 + len(document.words)
        assert loaded.unk_token_id not in ids
        assert loaded.decode(ids[1:]) == document.text
        assert loaded(document.text, add_special_tokens=False)["input_ids"] == ids[1:]


def test_spans_and_consequences_are_whole_tokens():
    loaded = AutoTokenizer.from_pretrained(folder())
    for text in (each for one in labelled("sentiment", 20, seed=0) for each in (one, twin_of(one))):
        encoded = loaded(text.text, return_offsets_mapping=True)
        assert text.span in encoded["offset_mapping"]
        assert text.consequence is not None
        begins = [begin for begin, _ in encoded["offset_mapping"]]
        token = encoded["input_ids"][begins.index(text.consequence.position + 1)]
        first = loaded(text.consequence.tokens[text.label], add_special_tokens=False)["input_ids"]
        assert first == [token]


def test_the_shipped_model_keeps_its_limits(shipped: LlamaForCausalLM):
    assert sum(p.numel() for p in shipped.parameters()) <= 2_000_000
    assert {p.dtype for p in shipped.parameters()} == {torch.float32}
    assert (folder() / "model.safetensors").stat().st_size <= 8_000_000
    assert shipped.config.num_hidden_layers >= 4
    assert shipped.config.max_position_embeddings >= 256


LEAST = {
    "agreement": 0.99,
    "agreement_attractor": 0.98,
    "capital": 0.98,
    "pronoun": 0.98,
    "pronoun_distractor": 0.98,
    "sentiment": 0.97,
    "grammatical": 0.97,
}


def test_the_shipped_weights_speak_the_language_as_their_record_says(shipped: LlamaForCausalLM):
    """On a quarter of the record's held-out texts; `scripts/train_microworld.py --score` takes all of them."""
    record = json.loads((folder() / "training.json").read_text())["held_out"]
    figures = score(shipped, n_texts=500)
    assert figures["excess_nats"] <= 0.02
    assert figures["excess_nats"] == pytest.approx(record["excess_nats"], abs=2e-4)
    for name, least in LEAST.items():
        assert figures[name] >= least, name
        assert figures[name] == pytest.approx(record[name], abs=0.01), name


def test_the_record_of_the_training_says_how_to_repeat_it():
    record = json.loads((folder() / "training.json").read_text())
    assert {"command", "recipe", "n_words", "seconds", "n_parameters", "held_out"} <= set(record)
    assert str(record["recipe"]["seed"]) in record["command"]
    assert record["seconds"] <= 20 * 60


def test_the_untrained_model_is_the_same_shape_and_knows_nothing(shipped: LlamaForCausalLM):
    model, again = untrained(0), untrained(0)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes == {name: p.shape for name, p in shipped.named_parameters()}
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(untrained(1).lm_head.weight, model.lm_head.weight)
    figures = score(model, n_texts=6)
    assert figures["excess_nats"] > 1
    assert figures["capital"] < 0.5


def test_making_an_untrained_model_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    untrained(0)
    assert torch.equal(torch.rand(1), expected)


Script = Callable[..., tuple[int, str, str]]


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs the script in this process, with one thread; gives its status, standard output and standard error."""
    main = runpy.run_path(str(SCRIPT))["main"]

    def run(*options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, "--threads", "1", *options])
        status = 0
        try:
            main()
        except SystemExit as exit:
            status = exit.code
        out, err = capsys.readouterr()
        assert isinstance(status, int)
        return status, out, err

    return run


def test_the_script_scores_from_any_directory(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = script("--score", "--json", "--texts", "20")
    assert status == 0
    figures = json.loads(out.splitlines()[-1])
    assert {"excess_nats", *LEAST} <= set(figures)
    assert figures["agreement"] >= 0.9


def test_a_killed_training_goes_on_and_ends_with_the_same_bits(script: Script, tmp_path: Path):
    options = ["--steps", "34", "--documents", "2", "--texts", "5"]
    status, _, err = script(*options, "--out", str(tmp_path / "whole"), "--json")
    assert status == 0
    assert "words/s" in err
    assert " left" in err
    command = [sys.executable, str(SCRIPT), "--threads", "1", *options, "--out", str(tmp_path / "killed")]
    killed = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    next(line for line in killed.stderr if line.startswith("step 32/"))
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed").exists()
    _, _, again = script(*options, "--out", str(tmp_path / "killed"))
    assert "going on from step" in again
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    record = json.loads((tmp_path / "killed" / "training.json").read_text())
    assert record["recipe"] == {"seed": 0, "n_steps": 34, "n_documents": 2, "n_threads": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
    assert LlamaForCausalLM.from_pretrained(tmp_path / "killed").config.num_hidden_layers >= 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--score", "--out", "nowhere"), "nowhere holds no trained model: it has no training.json"),
        (("--steps", "-1"), "'-1' is not a whole number above zero"),
    ],
)
def test_bad_input_of_the_script_is_status_2_and_says_what(script: Script, options: tuple[str, ...], message: str):
    status, _, err = script(*options)
    assert status == 2
    assert message in err
