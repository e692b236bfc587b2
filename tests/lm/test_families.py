"""Laws of the table: its paths are there, templates stand in for it, packed documents are isolated where it says so."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from sae.core.errors import InputError
from sae.lm import check_site, editing, reading, sites_of
from sae.lm.families import FAMILIES, LLAMA, family_of, set_family
from sae.lm.family import Family
from sae.lm.tiny import TINY, tiny

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 8, "pad_token_id": None}
PACKED = ["embed", "blocks.0.attn_out", "blocks.1.resid_post", "blocks.2.attn_z", "final"]


def test_every_row_of_the_table_is_tried() -> None:
    assert {model_type for model_type, _ in TINY.values()} == set(FAMILIES)


def test_every_path_of_a_row_is_a_module(model: nn.Module) -> None:
    set_family(model, family_of(model))


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("name", list(TINY))
def test_packed_equals_alone_exactly_where_the_table_says(name: str, eager: bool, ids: Tensor) -> None:
    model = tiny(name, eager=eager)
    positions = torch.cat([torch.arange(7), torch.arange(5)]).expand(3, -1)
    with reading(model, PACKED) as packed:
        model(input_ids=ids, position_ids=positions, use_cache=False)
    apart = 0.0
    for piece in (slice(0, 7), slice(7, 12)):
        with reading(model, PACKED) as alone:
            model(input_ids=ids[:, piece], use_cache=False)
        apart = max(apart, *(float((packed[site][:, piece] - alone[site]).abs().max()) for site in PACKED))
    assert apart < 1e-5 if family_of(model).isolates else apart > 1e-2


def test_an_architecture_that_the_table_lacks_is_told_by_its_paths(ids: Tensor) -> None:
    model: Any = tiny("llama")
    known = tiny("llama")
    model.config.model_type = "unheard_of"
    with pytest.raises(InputError, match=r"no family for architecture 'unheard_of'; there are llama, .*give a Family"):
        sites_of(model)
    written = {
        "blocks": "model.layers",
        "embed": "model.embed_tokens",
        "final": "into model.norm",
        "attn_out": "self_attn",
    }
    set_family(model, Family.model_validate(written))
    assert not family_of(model).isolates, "nobody has tried whether its documents see one another"
    assert sites_of(model)[:4] == ("embed", "blocks.0.resid_pre", "blocks.0.attn_out", "blocks.0.resid_post")
    with pytest.raises(
        InputError, match=r"no site 'blocks.0.mlp_in'.*it has embed, blocks.{0…2}.{resid_pre, attn_out,"
    ):
        check_site(model, "blocks.0.mlp_in")
    set_family(model, LLAMA)
    edit = {"blocks.1.attn_heads": lambda x, context: x * 2}
    with editing(model, edit), editing(known, edit), reading(model, sites_of(known)) as ours:
        with reading(known, sites_of(known)) as theirs:
            known(input_ids=ids)
        model(input_ids=ids)
    assert all(torch.equal(ours[site], theirs[site]) for site in sites_of(known))


def test_a_path_that_is_not_there_is_named_with_the_nearest() -> None:
    wrong = LLAMA.model_copy(update={"mlp_out": "mpl"})
    with pytest.raises(
        InputError,
        match=r"mlp_out is 'model\.layers\.0\.mpl', which this Llama\w+ has not; did you mean 'model\.layers\.0",
    ):
        set_family(tiny("llama"), wrong)
    with pytest.raises(ValueError, match="mlp_uot"):
        Family.model_validate({"blocks": "h", "embed": "e", "final": "n", "mlp_uot": "mlp"})


@pytest.mark.parametrize(
    ("field", "written", "needed"),
    [
        ("blocks", "", "must name a module"),
        ("blocks", "model", "a LlamaModel; it must be a ModuleList"),
        ("blocks", "model.embed_tokens", "an? Embedding; it must be a ModuleList"),
        ("blocks", "into model.layers", "without into or kernel"),
        ("embed", "", "must name a module"),
        ("embed", "model.layers", "a module that is called"),
        ("final", "kernel model.norm", "only attn_pattern lies in a kernel"),
        ("final", "into ", "must name a module"),
        ("head", "model.rotary_emb", "a weight of 2 dimensions"),
        ("attn_heads", "self_attn", "a weight of 2 dimensions"),
        ("attn_heads", "into self_attn.o_proj", "without into or kernel"),
        ("attn_pattern", "kernel input_layernorm", "an attention module with its configuration"),
        (
            "attn_q",
            "self_attn.q_proj",
            r"queries, keys and values \(fused: interleaved\), 12 heads of 4, but it gives 16",
        ),
    ],
)
def test_a_module_that_is_not_what_its_field_needs_is_refused_by_name(field: str, written: str, needed: str) -> None:
    paths = {"blocks": "model.layers", "embed": "model.embed_tokens", "final": "into model.norm", field: written}
    template = Family.model_validate({**paths, "fused": "interleaved"})
    with pytest.raises(InputError, match=f"^family: {field} is .*{needed}"):
        set_family(tiny("llama"), template)


@pytest.mark.parametrize(("fused", "says"), [("separate", "separate"), ("stacked", "8 heads of 4, but it gives 24")])
def test_maps_that_do_not_give_whole_heads_are_refused(fused: str, says: str) -> None:
    wrong = LLAMA.model_copy(update={"attn_q": "mlp.up_proj", "fused": fused})
    model: Any = tiny("llama")
    model.config.num_attention_heads = 4 if fused == "stacked" else 5
    with pytest.raises(InputError, match=f"family: attn_q is 'model.layers.0.mlp.up_proj', a Linear; .*{says}"):
        set_family(model, wrong)


def test_a_model_without_its_head_is_refused() -> None:
    config = LlamaConfig(**SMALL)
    with pytest.raises(InputError, match=r"'model\.layers', which this LlamaModel has not"):
        sites_of(LlamaModel(config))


def test_bloom_whose_residual_is_normed_is_refused() -> None:
    model: Any = tiny("bloom")
    model.config.apply_residual_connection_post_layernorm = True
    with pytest.raises(InputError, match="no residual stream that adds up"):
        sites_of(model)


@pytest.mark.parametrize(
    ("name", "site", "why"),
    [
        ("gpt_neox", "blocks.0.resid_mid", "attention and MLP read the same residual"),
        ("mixtral", "blocks.0.mlp_hidden", "each expert has its own"),
        ("bert", "final_norm", "its head reads the last residual"),
    ],
)
def test_what_a_family_leaves_out_is_refused_with_the_reason_and_what_there_is(name: str, site: str, why: str) -> None:
    with pytest.raises(InputError, match=f"no site '{site}' in this {TINY[name][0]}: {why}; it has embed, blocks"):
        check_site(tiny(name), site)


class _ByKeyword(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class _Unheard(nn.Module):
    """Calls its blocks by a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Embedding(48, 4), nn.ModuleList([_ByKeyword(), _ByKeyword()])
        self.norm, self.lm_head = nn.LayerNorm(4), nn.Linear(4, 48)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x=x)
        return self.lm_head(self.norm(x))


def test_what_a_module_reads_by_a_name_of_its_own_is_refused(ids: Tensor) -> None:
    model = _Unheard()
    set_family(model, Family(blocks="blocks", embed="embed", final="into norm"))
    with reading(model, ["embed", "blocks.0.resid_post", "final"]) as captured:
        model(input_ids=ids)
    torch.testing.assert_close(captured["final"], captured["embed"] + 2)
    with (
        pytest.raises(InputError, match=r"what _ByKeyword reads, but it is called by x; what can be read is a"),
        reading(model, ["blocks.1.resid_pre"]),
    ):
        model(input_ids=ids)
