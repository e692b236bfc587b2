"""Compiled blocks: reading and editing stay right, wherever the hooks stand and whenever they come."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm import Context, compile_blocks, editing, reading
from sae.lm.compiled import _Forward
from sae.lm.families import family_of
from sae.lm.tiny import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SITES = ["embed", "blocks.0.resid_post", "blocks.1.attn_out", "blocks.1.resid_mid", "blocks.2.resid_pre", "final"]


def shift(x: Tensor, context: Context) -> Tensor:
    return x + torch.linspace(0.5, 1.5, x.shape[-1])


def read(model: nn.Module, ids: Tensor, edits: dict) -> dict[str, Tensor]:
    with editing(model, edits), reading(model, SITES) as captured:
        model(input_ids=ids, use_cache=False)
    return dict(captured)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_compiled_blocks_give_the_same(name: str, ids: Tensor) -> None:
    written, model = tiny(name), tiny(name)
    compile_blocks(model, backend="eager")  # the tracing is what could go wrong, not the code that comes out of it
    compile_blocks(model, backend="eager")
    assert all(isinstance(block.forward, _Forward) for block in model.get_submodule(family_of(model).blocks).children())
    torch.testing.assert_close(
        model(input_ids=ids, use_cache=False).logits, written(input_ids=ids, use_cache=False).logits
    )
    # After the first pass everything is compiled; hooks that come now must still be seen, and then be gone.
    for edits in ({}, {"blocks.1.resid_pre": shift}, {"blocks.0.mlp_out": shift, "blocks.1.resid_mid": shift}, {}):
        theirs = read(written, ids, edits)
        for site, x in read(model, ids, edits).items():
            torch.testing.assert_close(x, theirs[site])


def test_blocks_that_are_looked_into_run_as_written(ids: Tensor) -> None:
    model, compiled = tiny("llama"), []

    def backend(graph: torch.fx.GraphModule, example: list[Tensor]) -> nn.Module:
        compiled.append(graph)
        return graph

    compile_blocks(model, backend)
    with reading(model, [f"blocks.{block}.mlp_in" for block in range(3)]):
        model(input_ids=ids, use_cache=False)
    assert not compiled
    with reading(model, ["blocks.2.resid_post"]):
        model(input_ids=ids, use_cache=False)
    assert compiled


def test_attention_weights_have_all_blocks_run_as_written(ids: Tensor) -> None:
    model, compiled = tiny("llama", eager=False), []
    compile_blocks(model, lambda graph, example: compiled.append(graph) or graph)
    plain = tiny("llama", eager=False)
    found = []
    for one in (model, plain):
        with reading(one, ["blocks.1.attn_pattern", "final"]) as captured:
            one(input_ids=ids, use_cache=False)
        found.append(captured)
    assert not compiled
    assert all(torch.equal(x, found[1][site]) for site, x in found[0].items())


def test_a_model_compiled_as_a_whole_is_refused(ids: Tensor) -> None:
    whole = tiny("llama")
    whole.compile(backend="eager")
    wrapped: Any = torch.compile(tiny("llama"), backend="eager")
    for model in (whole, wrapped):
        with pytest.raises(InputError, match=r"use sae\.lm\.compile_blocks"), reading(model, ["blocks.1.resid_post"]):
            pass


def test_a_copy_of_a_compiled_model_is_compiled_and_has_its_own_weights(ids: Tensor) -> None:
    model = tiny("llama")
    plain = model(input_ids=ids, use_cache=False).logits
    compile_blocks(model, backend="eager")
    other = deepcopy(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert all(isinstance(block.forward, _Forward) for block in other.get_submodule("model.layers").children())
    torch.testing.assert_close(other(input_ids=ids, use_cache=False).logits, plain)


def test_a_refusal_leaves_the_blocks_compiled(ids: Tensor) -> None:
    model: Any = tiny("llama")
    model.config, compiled = deepcopy(model.config), []
    compile_blocks(model, lambda graph, example: compiled.append(graph) or graph)
    with pytest.raises(InputError, match="has a configuration of its own"), reading(model, ["blocks.1.attn_pattern"]):
        pass
    model(input_ids=ids, use_cache=False)
    assert compiled
