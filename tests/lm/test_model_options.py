"""Large models: spread, offloaded, quantised; what runs here is run, the rest is checked up to Hugging Face's door."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sae.core.config import canonical_hash
from sae.core.errors import InputError
from sae.lm import (
    Context,
    LoadedModel,
    ModelOptions,
    editing,
    generate,
    load_model,
    logit_effects,
    reading,
    sites_of,
)
from sae.lm.families import LLAMA

IDS = torch.tensor([[1, 5, 9, 7], [1, 8, 3, 2]])
needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="device maps need accelerate, which is not installed"
)


def shift(x: Tensor, context: Context) -> Tensor:
    return x + 0.5


def everything(loaded: LoadedModel) -> dict[str, Tensor]:
    sites = [site for site in sites_of(loaded) if not site.endswith("attn_heads")]
    with editing(loaded, {"blocks.1.resid_mid": shift}), reading(loaded, sites) as captured:
        loaded(input_ids=IDS.to(loaded.device))
    return dict(captured)


def offloaded(folder: Path, scratch: Path) -> LoadedModel:
    parts = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "cpu"}
    device_map: dict[str, int | str] = {**parts, "model.norm": "disk", "model.rotary_emb": "cpu", "lm_head": "disk"}
    return load_model(str(folder), options=ModelOptions(device_map=device_map, offload_folder=str(scratch)))


@needs_accelerate
def test_offloaded_model_reads_edits_and_generates_as_the_whole_one(model_folder: Path, tmp_path: Path) -> None:
    whole, spread = load_model(str(model_folder)), offloaded(model_folder, tmp_path / "scratch")
    assert spread.model.get_submodule("model.layers.1.mlp.up_proj").weight.is_meta
    assert spread.device == torch.device("cpu")
    assert spread.n_vocab == whole.n_vocab
    theirs = everything(spread)
    for site, x in everything(whole).items():
        assert torch.equal(theirs[site], x), site
    prompts = [[1, 5, 9], [7]]
    for ours, other in zip(generate(whole, prompts, 4).tokens, generate(spread, prompts, 4).tokens, strict=True):
        assert torch.equal(ours, other)


@needs_accelerate
def test_unembedding_of_an_offloaded_head(model_folder: Path, tmp_path: Path) -> None:
    directions = torch.eye(16)
    spread = offloaded(model_folder, tmp_path / "scratch")
    assert torch.equal(logit_effects(spread, directions), logit_effects(load_model(str(model_folder)), directions))


@needs_accelerate
def test_heads_of_an_offloaded_block_are_read(model_folder: Path, tmp_path: Path) -> None:
    whole, spread = load_model(str(model_folder)), offloaded(model_folder, tmp_path / "scratch")
    site = "blocks.1.attn_heads"
    with reading(whole, [site]) as expected:
        whole(input_ids=IDS)
    with reading(spread, [site]) as captured:
        spread(input_ids=IDS)
    assert torch.equal(captured[site], expected[site])


@needs_accelerate
def test_device_maps_by_name(model_folder: Path) -> None:
    loaded = load_model(str(model_folder), options=ModelOptions(device_map="auto", max_memory={"cpu": "1GiB"}))
    assert torch.equal(loaded(input_ids=IDS).logits, load_model(str(model_folder))(input_ids=IDS).logits)


def test_options_reach_hugging_face(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    class ReachedError(Exception):
        """Everything was passed on."""

    def from_pretrained(location: str, **options: Any) -> None:
        given.update(options)
        raise ReachedError

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", from_pretrained)
    four_bits = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    options = ModelOptions(bitsandbytes=four_bits, max_memory={"0": "20GiB"}, device_map="balanced", offload_folder="x")
    with pytest.raises(ReachedError):
        load_model(str(model_folder), options=options)
    quantised = given["quantization_config"]
    assert (quantised.load_in_4bit, quantised.bnb_4bit_quant_type) == (True, "nf4")
    assert quantised.bnb_4bit_compute_dtype == torch.bfloat16
    assert given["device_map"] == "balanced"
    assert given["max_memory"] == {0: "20GiB"}
    assert given["offload_folder"] == "x"
    with pytest.raises(ReachedError):
        load_model(str(model_folder), options=ModelOptions(bitsandbytes={"load_in_8bit": True}))
    assert given["device_map"] == {"": torch.device("cpu")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ModelOptions(bitsandbytes={"load_in_4bits": True}), "no option 'load_in_4bits'; did you mean 'load_in_4bit'"),
        (ModelOptions(bitsandbytes={"load_in_4bit": "yes"}), "bitsandbytes: load_in_4bit must be a boolean"),
        (ModelOptions(device_map="everywhere"), "cannot be loaded as a language model: .*device_map"),
    ],
)
def test_bad_options(model_folder: Path, options: ModelOptions, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        load_model(str(model_folder), options=options)
    assert "\n" not in str(refusal.value)


def test_quantisation_without_bitsandbytes_is_one_line(model_folder: Path) -> None:
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(InputError, match=r"bitsandbytes"):
        load_model(str(model_folder), options=ModelOptions(bitsandbytes={"load_in_8bit": True}))


def test_module_paths_of_an_unknown_architecture(model_folder: Path) -> None:
    given = load_model(str(model_folder), options=ModelOptions(family=LLAMA.model_copy(update={"mlp_hidden": ""})))
    assert "blocks.0.mlp_hidden" not in sites_of(given)
    with pytest.raises(InputError, match=r"family: blocks is 'model\.layer'"):
        load_model(str(model_folder), options=ModelOptions(family=LLAMA.model_copy(update={"blocks": "model.layer"})))


def test_placement_does_not_name_an_artifact_and_quantisation_does() -> None:
    spread = ModelOptions(device_map="auto", max_memory={"cpu": "1GiB"}, offload_folder="x", compile=True)
    assert canonical_hash(spread) == canonical_hash(ModelOptions())
    assert canonical_hash(ModelOptions(bitsandbytes={"load_in_8bit": True})) != canonical_hash(ModelOptions())
