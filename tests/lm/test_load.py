"""Loading from a folder, the fingerprint, and every way in which a user's reference can be wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sae.core.errors import InputError
from sae.lm import LoadedModel, fingerprint, load_model, reading
from sae.lm.tiny import tiny


def test_loaded_model_is_silent_frozen_and_knows_its_sizes(
    model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = load_model(str(model_folder))
    assert (loaded.d_model, loaded.n_layers, loaded.n_vocab, loaded.n_positions) == (16, 3, 48, 64)
    assert not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert loaded(input_ids=torch.tensor([[1, 2]])).logits.shape == (1, 2, 48)
    assert loaded.fingerprint == fingerprint(model_folder)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert next(load_model(str(model_folder), dtype="bfloat16").model.parameters()).dtype == torch.bfloat16


def test_fingerprint_follows_content_and_not_place(model_folder: Path, tmp_path: Path) -> None:
    before = fingerprint(model_folder)
    moved = model_folder.rename(tmp_path / "elsewhere")
    (moved / "README.md").write_text("a note")
    assert fingerprint(moved) == before
    weights = load_file(moved / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    changed = fingerprint(moved)
    assert changed != before
    (moved / "tokenizer_config.json").write_text("{}")
    assert fingerprint(moved) != changed


@pytest.mark.parametrize("ref", ["gpt2", "EleutherAI/pythia-160m", "google/gemma-2-2b@main"])
def test_hub_name_while_offline(ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match=f"model '{ref}' is not a folder and not in the hub's cache, and HF_HUB_OFFLINE"
    ):
        load_model(ref)


@pytest.mark.parametrize("ref", ["/nowhere/at/all", "./nowhere", "~/nowhere", "a/b/c", "..\\nowhere"])
def test_paths_that_are_not_there(ref: str) -> None:
    with pytest.raises(InputError, match="no model folder"):
        load_model(ref)


def test_parent_that_exists_makes_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no model folder models/nowhere"):
        load_model("models/nowhere")


def test_neither_a_path_nor_a_hub_name() -> None:
    with pytest.raises(InputError, match="neither a folder nor a hub name"):
        load_model("two words")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "names no model_type"),
        (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "tokenizer.json is missing"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "the tokenizer of .* cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded as a language model"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678"), "cannot be loaded as a language"),
    ],
)
def test_spoilt_folders(model_folder: Path, spoil, message: str) -> None:
    spoil(model_folder)
    with pytest.raises(InputError, match=message) as refusal:
        load_model(str(model_folder))
    assert "\n" not in str(refusal.value)


def test_missing_weights_are_not_made_up(model_folder: Path) -> None:
    weights = load_file(model_folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 of its weights, for example model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(model_folder))


@pytest.mark.parametrize("architecture", ["nonesuch", "t5", "vit", "falcon"])
def test_architectures_without_a_family_and_unknown_ones(model_folder: Path, architecture: str) -> None:
    (model_folder / "config.json").write_text(json.dumps({"model_type": architecture}))
    with pytest.raises(
        InputError, match=f"^no family for architecture '{architecture}'; there are llama, .*modernbert"
    ):
        load_model(str(model_folder))


@pytest.mark.parametrize(
    "wrong",
    [{"num_hidden_layers": "three"}, {"num_attention_heads": 5}, {"num_attention_heads": 0}, {"rope_parameters": 3}],
)
def test_wrong_values_in_a_configuration_name_the_folder(model_folder: Path, wrong: dict[str, object]) -> None:
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps({**config, **wrong}))
    with pytest.raises(InputError) as refusal:
        load_model(str(model_folder))
    assert f"config.json of {model_folder} cannot be read by transformers: " in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_dtypes_and_devices_that_are_not_there(model_folder: Path) -> None:
    with pytest.raises(InputError, match="no dtype 'float8' for a model; there are float32"):
        load_model(str(model_folder), dtype="float8")
    with pytest.raises(InputError, match="no device 'abacus'"):
        load_model(str(model_folder), device="abacus")


def test_real_small_model(stories: LoadedModel) -> None:
    assert (stories.d_model, stories.n_layers, stories.n_vocab) == (64, 5, 512)
    ids = torch.tensor([stories.tokenizer("Once upon a")["input_ids"]])
    assert stories.tokenizer.decode(stories(input_ids=ids).logits[0, -1].argmax()).strip() == "time"


@pytest.mark.parametrize("name", ["bert", "modernbert", "bloom"])
def test_encoders_and_models_without_position_embeddings_are_loaded(model_folder: Path, name: str) -> None:
    model = tiny(name)
    model.save_pretrained(model_folder)  # pyright: ignore[reportCallIssue]
    loaded = load_model(str(model_folder))
    assert type(loaded.model) is type(model)
    assert loaded.n_positions == (2048 if name == "bloom" else 64)
    ids = torch.tensor([[5, 6, 7]])
    with (
        reading(loaded, ["blocks.1.resid_post"]) as ours,
        reading(model, ["blocks.1.resid_post"], stop=False) as theirs,
    ):
        model(input_ids=ids)
        loaded(input_ids=ids)
    torch.testing.assert_close(ours["blocks.1.resid_post"], theirs["blocks.1.resid_post"])
