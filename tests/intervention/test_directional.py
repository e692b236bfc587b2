"""Directional ablation: edits at every writer are orthogonalised weights; edits of block outputs are not."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.intervention import Direction, applying, directional_ablation, orthogonalised, project_out
from sae.lm import compile_blocks, editing, reading, sites_of
from sae.lm.tiny import TINY, tiny

from .conftest import D, normal

PLAIN = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "phi3",
    "mixtral",
    "gpt2",
    "gpt_neox",
    "gpt_neox_sequential",
    "opt",
)
"""Families whose writers end in plain linear maps."""
NORMED = ("gemma2", "gemma3", "olmo2", "bloom")
"""Families that norm what a writer gives."""
IDS = torch.randint(3, 48, (3, 9), generator=torch.Generator().manual_seed(1))
model_of = cache(tiny)


def logits(model: nn.Module) -> Tensor:
    return model(input_ids=IDS).logits


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("k", [1, 3])
def test_edits_at_every_writer_equal_orthogonalised_weights(name: str, k: int) -> None:
    model, directions = model_of(name), normal(k, D, seed=3)
    plain, weights = logits(model), logits(orthogonalised(model, directions))
    with applying(model, directional_ablation(model, directions)):
        edited = logits(model)
    torch.testing.assert_close(edited, weights, atol=1e-4, rtol=0)
    assert (edited - plain).abs().max() > 0.1
    assert torch.equal(logits(model), plain)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_directions_in_half_precision_are_removed_as_exactly(name: str, kind: torch.dtype) -> None:
    model, direction = model_of(name), Direction(normal(D, seed=3).to(kind), "embed", "model", "half")
    with applying(model, directional_ablation(model, direction)):
        edited = logits(model)
    torch.testing.assert_close(edited, logits(orthogonalised(model, direction)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [*PLAIN, *NORMED])
def test_no_residual_holds_the_directions(name: str) -> None:
    model, directions = model_of(name), normal(2, D, seed=3)
    sites = [site for site in sites_of(model) if "resid" in site or site in ("embed", "final")]
    with applying(model, directional_ablation(model, directions)), reading(model, sites) as captured:
        model(input_ids=IDS)
    for site in sites:
        assert (captured[site] @ directions.T).abs().max() < 1e-4, site


@pytest.mark.parametrize("name", PLAIN)
def test_edits_of_block_outputs_alone_are_another_thing(name: str) -> None:
    model, directions = model_of(name), normal(1, D, seed=3)
    plain, weights = logits(model), logits(orthogonalised(model, directions))
    outputs = {site: project_out(directions) for site in sites_of(model) if site.endswith("resid_post")}
    with editing(model, outputs):
        off = (logits(model) - weights).abs().max()
    assert off > 100 * 1e-4
    assert off > 0.05 * (plain - weights).abs().max()


@pytest.mark.parametrize("name", PLAIN)
def test_edits_of_every_residual_are_the_same(name: str) -> None:
    """Before, between and after attention and MLP: nothing reads the stream anywhere else."""
    model, directions = model_of(name), normal(1, D, seed=3)
    sites = [site for site in sites_of(model) if "resid" in site]
    with editing(model, dict.fromkeys(sites, project_out(directions))):
        torch.testing.assert_close(logits(model), logits(orthogonalised(model, directions)), atol=1e-4, rtol=0)


def test_a_head_that_shares_its_weights_with_the_embedding_keeps_them() -> None:
    model: Any = model_of("gpt2")
    assert model.lm_head.weight is model.transformer.wte.weight
    copy: Any = orthogonalised(model, normal(1, D))
    assert torch.equal(copy.lm_head.weight, model.lm_head.weight)
    assert not torch.equal(copy.transformer.wte.weight, model.transformer.wte.weight)
    assert not copy.config.tie_word_embeddings


def test_a_direction_is_removed_also_from_a_compiled_model() -> None:
    model, direction = tiny("llama"), Direction(normal(D), "final", "std", "a test")
    plain = logits(orthogonalised(model, direction.vector[None]))
    compile_blocks(model, backend="eager")
    torch.testing.assert_close(logits(orthogonalised(model, direction)), plain)
    with applying(model, directional_ablation(model, direction)):
        torch.testing.assert_close(logits(model), plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NORMED)
def test_families_that_norm_what_is_written_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"still writes the directions: .*; use directional_ablation"):
        orthogonalised(model_of(name), normal(1, D))


def test_directions_that_cannot_be_removed_are_refused() -> None:
    model = model_of("llama")
    with pytest.raises(InputError, match="linearly dependent"):
        orthogonalised(model, torch.zeros(1, D))
    with pytest.raises(InputError, match="width 3"):
        orthogonalised(model, normal(1, 3))
    with (
        pytest.raises(InputError, match="width 3 at a site of width 16"),
        applying(model, directional_ablation(model, normal(1, 3))),
    ):
        logits(model)


def test_every_tiny_family_is_here_or_an_encoder_or_norms_the_sum() -> None:
    assert set(TINY) - {*PLAIN, *NORMED} == {"bert", "modernbert", "opt_post"}
