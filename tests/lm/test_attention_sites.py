"""Laws inside attention: queries and keys make the pattern, the pattern and values make z, the heads make the sum."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm import Context, editing, reading, sites_of
from sae.lm.families import family_of, model_type_of
from sae.lm.tiny import TINY, tiny
from sae.lm.weights import weight_of

HALF = 0.5  # 1/√d_head, also where the scale has a name of its own
INSIDE = [f"blocks.1.attn_{name}" for name in ("in", "q", "k", "v", "pattern", "z", "heads", "out")]
BY_DEFAULT_FUSED = [name for name in TINY if name not in ("gemma2", "bloom")]
"""Those whose attention kernel is another than the eager one unless asked for."""


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def identity(x: Tensor) -> Tensor:
    return x


def attention_of(model: nn.Module) -> nn.Module:
    row = family_of(model)
    return model.get_submodule(f"{row.blocks}.1").get_submodule(row.attn_pattern.removeprefix("kernel "))


def post_norm(model: nn.Module) -> Callable[[Tensor], Tensor]:
    row = family_of(model)
    is_norm = row.attn_out.endswith("layernorm")
    return model.get_submodule(f"{row.blocks}.1").get_submodule(row.attn_out) if is_norm else identity


def repeated(x: Tensor, n_heads: int) -> Tensor:
    """[batch, position, kv_head, d] → [batch, head, position, d]."""
    return x.repeat_interleave(n_heads // x.shape[2], dim=2).transpose(1, 2)


def inside(model: nn.Module, **inputs: Tensor) -> dict[str, Tensor]:
    with reading(model, INSIDE) as captured:
        model(**inputs)
    return {site.rpartition("_")[2]: x for site, x in captured.items()}


@pytest.fixture(params=["right", "left"])
def padded(request: pytest.FixtureRequest, mask: Tensor) -> Tensor:
    return mask if request.param == "right" else mask.flip(1)


def test_rows_of_the_pattern_sum_to_one_and_causal_ones_see_nothing_later(
    model: nn.Module, ids: Tensor, padded: Tensor
) -> None:
    pattern = inside(model, input_ids=ids, attention_mask=padded)["pattern"]
    close(pattern.sum(-1), torch.ones(3, 4, 12))
    real = padded.bool()
    unseen = ~real[:, None, None, :].expand(-1, 4, 12, -1) & real[:, None, :, None]
    assert pattern[unseen].abs().max() == 0
    if family_of(model).causal:
        later = torch.triu(torch.ones(12, 12, dtype=torch.bool), 1) & real[:, None, :, None]
        assert pattern[later.expand_as(pattern)].abs().max() == 0
    else:
        assert pattern[0, :, 3, 4:7].min() > 0


def test_pattern_times_values_is_z_and_heads_sum_to_what_attention_adds(
    model: nn.Module, ids: Tensor, padded: Tensor
) -> None:
    x = inside(model, input_ids=ids, attention_mask=padded)
    close((x["pattern"] @ repeated(x["v"], 4)).transpose(1, 2), x["z"])
    row = family_of(model)
    w_o = model.get_submodule(f"{row.blocks}.1").get_submodule(row.attn_heads)
    bias = w_o.bias if isinstance(w_o.bias, Tensor) else torch.zeros(16)
    close(post_norm(model)(x["heads"].sum(2) + bias), x["out"])
    one = torch.zeros_like(x["z"])
    one[:, :, 2] = x["z"][:, :, 2]
    close(w_o(one.flatten(2)) - bias, x["heads"][:, :, 2])


def test_queries_and_keys_make_the_pattern(model: nn.Module, ids: Tensor) -> None:
    """With every position id 0 the rotation is the identity, so they stand here before it and after nothing else."""
    name = model_type_of(model)
    positions = {} if name == "bloom" else {"position_ids": torch.zeros_like(ids)}
    x = inside(model, input_ids=ids, attention_mask=torch.ones_like(ids), **positions)
    attention = attention_of(model)
    q_norm, k_norm = (getattr(attention, part, identity) for part in ("q_norm", "k_norm"))
    q, k = (
        norm(y.flatten(2)).view_as(y) if name == "olmo2" else norm(y)
        for norm, y in ((q_norm, x["q"]), (k_norm, x["k"]))
    )
    scores = q.transpose(1, 2) @ repeated(k, 4).mT * HALF
    cap = getattr(attention, "attn_logit_softcapping", None)
    scores = cap * torch.tanh(scores / cap) if cap else scores
    if name == "bloom":
        scores = scores + 2.0 ** -torch.arange(2, 9, 2)[:, None, None] * torch.arange(12)
    close(scores.masked_fill(x["pattern"] == 0, -torch.inf).softmax(-1), x["pattern"])


def test_edits_of_heads_are_summed_into_what_attention_adds(model: nn.Module, ids: Tensor) -> None:
    plain = inside(model, input_ids=ids)
    change = torch.linspace(-1, 1, 16)

    def one_head(x: Tensor, context: Context) -> Tensor:
        y = x.clone()
        y[:, :, 2] += change
        return y

    with editing(model, {"blocks.1.attn_heads": [one_head, one_head]}):
        edited = inside(model, input_ids=ids)
    row = family_of(model)
    w_o = model.get_submodule(f"{row.blocks}.1").get_submodule(row.attn_heads)
    summed = w_o(plain["z"].flatten(2)) + 2 * change
    close(edited["out"], post_norm(model)(summed))
    assert torch.equal(edited["z"], plain["z"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_edits_of_heads_are_exact_to_one_rounding_of_the_heads_and_the_sum(
    family: str, dtype: torch.dtype, ids: Tensor
) -> None:
    model = tiny(family).to(dtype)
    row = family_of(model)
    w_o = model.get_submodule(f"{row.blocks}.1").get_submodule(row.attn_heads)
    outputs: list[Tensor] = []
    keep = w_o.register_forward_hook(lambda module, args, output: outputs.append(output.double()))
    plain = inside(model, input_ids=ids)
    with editing(model, {"blocks.1.attn_heads": lambda x, context: x * (torch.arange(4) != 2)[:, None].to(dtype)}):
        inside(model, input_ids=ids)
    keep.remove()
    weight = weight_of(w_o).double()
    weight = weight.T if isinstance(w_o, nn.Linear) else weight
    heads = torch.einsum("bphd,hdm->bphm", plain["z"].double(), weight.unflatten(0, (4, 4)))
    exact = outputs[0] - heads[:, :, 2]
    bound = torch.finfo(dtype).eps / 2 * (exact.abs() + heads.abs().sum(2))
    assert ((outputs[1] - exact).abs() <= bound * 1.05 + 1e-7).all()


def test_removing_a_head_is_the_same_at_z_and_at_heads(model: nn.Module, ids: Tensor) -> None:
    def without(x: Tensor, context: Context) -> Tensor:
        return x * (torch.arange(4) != 1)[:, None]

    logits = []
    for site in ("blocks.1.attn_z", "blocks.1.attn_heads"):
        with editing(model, {site: without}):
            logits.append(model(input_ids=ids).logits)
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)


def test_edits_of_the_pattern_move_values(model: nn.Module, ids: Tensor) -> None:
    with editing(model, {"blocks.1.attn_pattern": lambda x, context: torch.eye(12).expand_as(x)}):
        x = inside(model, input_ids=ids)
    close(x["z"], repeated(x["v"], 4).transpose(1, 2))


def test_patching_queries_keys_and_values_patches_attention(model: nn.Module, ids: Tensor) -> None:
    theirs = inside(model, input_ids=ids.roll(1, 0))
    edits = {f"blocks.1.attn_{name}": lambda x, context, name=name: theirs[name] for name in "qkv"}
    with editing(model, edits):
        x = inside(model, input_ids=ids)
    for name in ("q", "k", "v", "pattern", "z", "heads", "out"):
        close(x[name], theirs[name])


@pytest.mark.parametrize("name", BY_DEFAULT_FUSED)
def test_the_eager_kernel_is_for_that_pass_only(name: str, ids: Tensor) -> None:
    model: Any = tiny(name, eager=False)
    kernel = model.config._attn_implementation
    plain = model(input_ids=ids).logits
    pattern = "blocks.1.attn_pattern"
    with reading(model, [pattern], stop=False), reading(model, ["blocks.0.attn_pattern"], stop=False) as captured:
        torch.testing.assert_close(model(input_ids=ids).logits, plain, atol=1e-4, rtol=1e-4)
    close(captured["blocks.0.attn_pattern"].sum(-1), torch.ones(3, 4, 12))
    with pytest.raises(KeyError), editing(model, {pattern: lambda x, context: {}["no"]}), reading(model, [pattern]):
        model(input_ids=ids)
    with reading(model, [pattern]):
        model(input_ids=ids)
    assert model.config._attn_implementation == kernel != "eager"
    assert torch.equal(model(input_ids=ids).logits, plain)


@pytest.mark.parametrize("name", BY_DEFAULT_FUSED)
def test_other_sites_leave_the_kernel_alone(name: str, ids: Tensor, mask: Tensor) -> None:
    model = tiny(name, eager=False)
    plain = model(input_ids=ids, attention_mask=mask).logits
    sites = [site for site in sites_of(model) if not site.endswith("attn_pattern")]
    with editing(model, dict.fromkeys(sites, lambda x, context: x.clone())), reading(model, sites, stop=False):
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, plain)


def test_edits_of_keys_and_values_reach_the_cache_once(ids: Tensor) -> None:
    for name in ("llama", "gpt2", "gpt_neox", "phi3", "bloom", "qwen3", "olmo2", "gemma3"):
        model = tiny(name)
        scaled = {f"blocks.1.attn_{part}": lambda x, context: x * torch.linspace(0.5, 2, 4) for part in "qkv"}
        with editing(model, scaled):
            whole = model(input_ids=ids).logits
            past = model(input_ids=ids[:, :7], use_cache=True).past_key_values
            rest = model(input_ids=ids[:, 7:], past_key_values=past, use_cache=True).logits
        torch.testing.assert_close(rest, whole[:, 7:], atol=1e-4, rtol=1e-4)


def test_pattern_through_a_cache_has_all_keys(ids: Tensor) -> None:
    for name in ("llama", "bloom", "gpt2"):
        model = tiny(name)
        whole = inside(model, input_ids=ids)["pattern"]
        past = model(input_ids=ids[:, :7], use_cache=True).past_key_values
        with reading(model, ["blocks.1.attn_pattern"]) as captured:
            model(input_ids=ids[:, 7:], past_key_values=past, use_cache=True)
        close(captured["blocks.1.attn_pattern"], whole[:, :, 7:])


def test_heads_of_quantised_weights_are_refused(ids: Tensor) -> None:
    model = tiny("llama")
    w_o = model.get_submodule("model.layers.1.self_attn.o_proj")
    w_o.weight = nn.Parameter(torch.zeros(128, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(InputError, match=r"attn_heads needs W_O in numbers; this Linear holds torch.uint8"):
        inside(model, input_ids=ids)
