"""GELU as one operation gives what a model's code gives, forwards and backwards, only where it is spelt out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from sae.lm import load_model
from sae.lm.fused import fuse_gelu
from sae.lm.tiny import TINY, tiny


@pytest.mark.parametrize("name", list(TINY))
def test_a_model_computes_the_same(name: str, ids: Tensor) -> None:
    written, fused = tiny(name), tiny(name)
    assert (fuse_gelu(fused) > 0) == (name == "gpt2")
    logits = [model(input_ids=ids, use_cache=False).logits for model in (written, fused)]
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["gelu_new", "gelu_fast"])
def test_value_and_gradient(kind: str) -> None:
    model = nn.Sequential(nn.Sequential(ACT2FN[kind]), nn.ReLU())
    written = ACT2FN[kind]
    assert fuse_gelu(model) == 1
    assert fuse_gelu(model) == 0
    x = torch.linspace(-10, 10, 10_001, requires_grad=True)
    gradients = [torch.autograd.grad(act(x).sum(), x)[0] for act in (written, model[0])]
    torch.testing.assert_close(model[0](x), written(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=2e-6)


def test_one_activation_in_two_places() -> None:
    model = nn.Sequential()
    shared = ACT2FN["gelu_new"]
    model.add_module("a", shared)
    model.add_module("b", shared)
    assert fuse_gelu(model) == 2
    assert [type(part) for part in model] == [nn.GELU] * 2


def test_loading_a_model_fuses_it(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    model: Any = tiny("gpt2")
    model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a"))).save_pretrained(tmp_path)
    loaded: Any = load_model(str(tmp_path)).model
    assert [type(block.mlp.act) for block in loaded.transformer.h] == [nn.GELU] * 3
