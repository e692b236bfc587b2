"""The shipped model: it loads as any other, fits its limits, and speaks the language."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

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
    assert sum(p.numel() for p in shipped.parameters()) <= 1_000_000
    assert {p.dtype for p in shipped.parameters()} == {torch.float32}
    assert (folder() / "model.safetensors").stat().st_size <= 4_000_000
    assert shipped.config.num_hidden_layers == 4
    assert shipped.config.hidden_size == 128
    assert shipped.config.max_position_embeddings >= 256


def test_the_shipped_model_speaks_the_language(shipped: LlamaForCausalLM):
    figures = score(shipped, n_texts=600, seed=11)
    assert figures["excess_nats"] < 0.03
    for name in ("agreement", "agreement_attractor", "sentiment", "capital"):
        assert figures[name] >= 0.97, name


def test_the_record_of_the_training_states_these_figures():
    record = json.loads((folder() / "training.json").read_text())
    assert {"command", "seed", "n_steps", "n_words", "seconds", "n_parameters", "held_out"} <= set(record)
    assert record["held_out"]["agreement"] >= 0.97


def test_the_untrained_model_is_the_same_shape_and_knows_nothing(shipped: LlamaForCausalLM):
    model, again = untrained(0), untrained(0)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes == {name: p.shape for name, p in shipped.named_parameters()}
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(untrained(1).lm_head.weight, model.lm_head.weight)
    figures = score(model, n_texts=100)
    assert figures["excess_nats"] > 1
    assert figures["capital"] < 0.5


def test_making_an_untrained_model_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    untrained(0)
    assert torch.equal(torch.rand(1), expected)


def test_the_script_scores_from_any_directory(tmp_path: Path):
    run = subprocess.run(
        [sys.executable, str(SCRIPT), "--score", "--json", "--texts", "50", "--threads", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout.splitlines()[-1])["agreement"] >= 0.9


def test_the_script_trains_and_writes_a_folder(tmp_path: Path):
    command = [sys.executable, str(SCRIPT), "--steps", "2", "--out", str(tmp_path / "out"), "--texts", "20", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "words/s" in run.stderr
    assert " left" in run.stderr
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 4
    assert json.loads((tmp_path / "out" / "training.json").read_text())["n_steps"] == 2
