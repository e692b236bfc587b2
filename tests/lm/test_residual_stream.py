"""Laws of the residual stream: what parts add to it is what it gains, in every family, under either padding."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm import editing, reading, sites_of, unembedding
from sae.lm.families import FAMILIES, family_of, model_type_of, set_family
from sae.lm.tiny import tiny

LAYERS = range(3)
POST_NORMS = {
    "bert": ("attention.output.LayerNorm", "output.LayerNorm"),
    "opt_post": ("self_attn_layer_norm", "final_layer_norm"),
}
"""Families whose blocks norm the residual after each sum, with those norms."""


def identity(x: Tensor) -> Tensor:
    return x


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


@pytest.fixture(params=["right", "left"])
def padded(request: pytest.FixtureRequest, mask: Tensor) -> Tensor:
    return mask if request.param == "right" else mask.flip(1)


@pytest.fixture
def x(model: nn.Module, ids: Tensor, padded: Tensor) -> dict[str, Tensor]:
    """All sites of one pass."""
    with reading(model, sites_of(model)) as captured:
        model(input_ids=ids, attention_mask=padded)
    return dict(captured)


def test_what_is_written_from_embed_to_final_is_their_difference(family: str, x: dict[str, Tensor]) -> None:
    if family not in POST_NORMS:
        written = sum(x[f"blocks.{layer}.{part}"] for layer in LAYERS for part in ("attn_out", "mlp_out"))
        close(x["embed"] + written, x["final"])


def test_each_block_adds_up(family: str, model: nn.Module, x: dict[str, Tensor]) -> None:
    before = x["embed"]
    for layer in LAYERS:
        block, part = f"blocks.{layer}.", model.get_submodule(f"{family_of(model).blocks}.{layer}")
        first, second = (part.get_submodule(path) for path in POST_NORMS.get(family, ("", "")))
        after_sum = (first, second) if family in POST_NORMS else (identity, identity)
        close(x[block + "resid_pre"], before)
        middle = after_sum[0](before + x[block + "attn_out"])
        if not family_of(model).parallel:
            close(x[block + "resid_mid"], middle)
        before = after_sum[1](middle + x[block + "mlp_out"])
        close(x[block + "resid_post"], before)
    close(x["final"], before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_edit_between_attention_and_mlp_is_summed_as_the_block_sums(
    family: str, dtype: torch.dtype, ids: Tensor, padded: Tensor
) -> None:
    """Bit for bit, also where the edit is far larger or smaller than the residual, and where another follows."""
    model = tiny(family).to(dtype)
    block = "blocks.1."
    sites = [block + name for name in ("resid_mid", "mlp_out", "resid_post")]
    if block + "resid_mid" not in sites_of(model) or family in POST_NORMS:
        return
    for scale in (1e-3, 1e3):
        edits = [lambda x, context, scale=scale: x.flip(-1) * scale, lambda x, context: x + 0.3]
        with editing(model, {sites[0]: edits, sites[1]: lambda x, context: -x}), reading(model, sites) as captured:
            model(input_ids=ids, attention_mask=padded)
        assert torch.equal(captured[sites[2]], captured[sites[0]] + captured[sites[1]])


def test_where_nobody_knows_what_the_mlp_adds_the_difference_is_added(ids: Tensor) -> None:
    known, unknown = tiny("llama"), tiny("llama")
    set_family(unknown, FAMILIES["llama"].model_copy(update={"mlp_out": ""}))
    final = []
    for model in (known, unknown, tiny("llama").train()):
        with editing(model, {"blocks.1.resid_mid": lambda x, context: x.flip(-1)}), reading(model, ["final"]) as found:
            model(input_ids=ids)
        final.append(found["final"])
    close(final[0], final[1])
    close(final[0], final[2])


def test_embeddings_have_their_own_sums(family: str, model: nn.Module, ids: Tensor) -> None:
    def table(path: str) -> Tensor:
        weight = model.get_submodule(path).weight
        assert isinstance(weight, Tensor)
        return weight

    sums: dict[str, Callable[[], Tensor]] = {
        "llama": lambda: table("model.embed_tokens")[ids],
        "gemma": lambda: 4 * table("model.embed_tokens")[ids],
        "gemma2": lambda: 4 * table("model.embed_tokens")[ids],
        "gemma3": lambda: 4 * table("model.embed_tokens")[ids],
        "gpt2": lambda: table("transformer.wte")[ids] + table("transformer.wpe")[:12],
        "opt": lambda: table("model.decoder.embed_tokens")[ids] + table("model.decoder.embed_positions")[2:14],
    }
    if family not in sums:
        pytest.skip("its embedding is one module's output")
    with reading(model, ["embed"]) as captured:
        model(input_ids=ids)
    close(captured["embed"], sums[family]())


def test_norms_lead_from_the_residual_to_what_parts_read(model: nn.Module, x: dict[str, Tensor]) -> None:
    row = family_of(model)
    block = model.get_submodule(f"{row.blocks}.1")
    residual = x["blocks.1.resid_pre" if row.parallel else "blocks.1.resid_mid"]
    for read, written, start in (("attn_in", row.attn_in, x["blocks.1.resid_pre"]), ("mlp_in", row.mlp_in, residual)):
        norm = identity if written.startswith("into ") else block.get_submodule(written)
        close(x[f"blocks.1.{read}"], norm(start))


def test_mlp_hidden_through_the_last_map_is_what_the_mlp_adds(model: nn.Module, x: dict[str, Tensor]) -> None:
    row = family_of(model)
    if not row.mlp_hidden:
        assert model_type_of(model) == "mixtral"
        return
    block = model.get_submodule(f"{row.blocks}.1")
    out = block.get_submodule(row.mlp_hidden.removeprefix("into "))(x["blocks.1.mlp_hidden"])
    post_norm = block.get_submodule(row.mlp_out) if row.mlp_out.endswith("layernorm") else identity
    close(x["blocks.1.mlp_out"], post_norm(out))


def test_final_through_norm_and_head_gives_the_logits(family: str, model: nn.Module, x: dict[str, Tensor]) -> None:
    row = family_of(model)
    normed = x["final"]
    if row.final_norm:
        normed = model.get_submodule(row.final_norm)(x["final"])
        close(normed, x["final_norm"])
    between = {"opt_post": "model.decoder.project_out", "bert": "cls.predictions.transform", "modernbert": "head"}
    if family in between:
        normed = model.get_submodule(between[family])(normed)
    logits = model.get_submodule(row.head)(normed)
    cap = getattr(model.config, "final_logit_softcapping", None)
    close(x["logits"], cap * torch.tanh(logits / cap) if cap else logits)


def test_unembedding_gives_the_logits_up_to_a_constant(family: str, model: nn.Module, x: dict[str, Tensor]) -> None:
    if family in ("opt_post", "bert", "modernbert"):
        with pytest.raises(InputError, match="has more, or no norm"):
            unembedding(model)
        return
    row = family_of(model)
    head, norm = model.get_submodule(row.head), model.get_submodule(row.final_norm)
    centred = x["final"] - x["final"].mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x["final"]
    sigma = (centred.pow(2).mean(-1, keepdim=True) + getattr(norm, "eps", getattr(norm, "variance_epsilon", 0))).sqrt()
    ours = x["final"] / sigma @ unembedding(model)
    theirs = head(x["final_norm"]) - head(norm.bias if isinstance(norm, nn.LayerNorm) else torch.zeros(16))
    torch.testing.assert_close(ours, theirs - theirs.mean(-1, keepdim=True), atol=2e-5, rtol=1e-4)
