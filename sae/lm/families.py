"""The table of architectures: by Hugging Face's `model_type`, where each keeps its places (`sae.lm.family`)."""

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from sae.core.errors import InputError
from sae.lm.family import Family
from sae.lm.template import check_family

LLAMA = Family(
    blocks="model.layers",
    embed="model.embed_tokens",
    attn_in="input_layernorm",
    attn_q="self_attn.q_proj",
    attn_k="self_attn.k_proj",
    attn_v="self_attn.v_proj",
    attn_pattern="kernel self_attn",
    attn_z="into self_attn.o_proj",
    attn_heads="self_attn.o_proj",
    attn_out="self_attn",
    resid_mid="into post_attention_layernorm",
    mlp_in="post_attention_layernorm",
    mlp_hidden="into mlp.down_proj",
    mlp_out="mlp",
    final="into model.norm",
    final_norm="model.norm",
    isolates=True,
)
_FUSED = {"attn_q": "self_attn.qkv_proj", "attn_k": "self_attn.qkv_proj", "attn_v": "self_attn.qkv_proj"}
PHI3 = LLAMA.model_copy(update={**_FUSED, "fused": "stacked"})
MIXTRAL = LLAMA.model_copy(update={"mlp_hidden": ""})
_POST_NORMS = {"attn_out": "post_attention_layernorm", "mlp_out": "post_feedforward_layernorm"}
OLMO2 = LLAMA.model_copy(
    update={**_POST_NORMS, "attn_in": "into self_attn", "resid_mid": "into mlp", "mlp_in": "into mlp"}
)
GEMMA = LLAMA.model_copy(update={"norm_offset": 1.0})
GEMMA2 = GEMMA.model_copy(
    update={**_POST_NORMS, "resid_mid": "into pre_feedforward_layernorm", "mlp_in": "pre_feedforward_layernorm"}
)
GPT2 = Family(
    blocks="transformer.h",
    embed="transformer.drop",
    attn_in="ln_1",
    attn_q="attn.c_attn",
    attn_k="attn.c_attn",
    attn_v="attn.c_attn",
    fused="stacked",
    attn_pattern="kernel attn",
    attn_z="into attn.c_proj",
    attn_heads="attn.c_proj",
    attn_out="attn",
    resid_mid="into ln_2",
    mlp_in="ln_2",
    mlp_hidden="into mlp.c_proj",
    mlp_out="mlp",
    final="into transformer.ln_f",
    final_norm="transformer.ln_f",
    isolates=True,
)
GPT_NEOX = Family(
    blocks="gpt_neox.layers",
    embed="gpt_neox.emb_dropout",
    attn_in="input_layernorm",
    attn_q="attention.query_key_value",
    attn_k="attention.query_key_value",
    attn_v="attention.query_key_value",
    fused="interleaved",
    attn_pattern="kernel attention",
    attn_z="into attention.dense",
    attn_heads="attention.dense",
    attn_out="post_attention_dropout",
    resid_mid="into post_attention_layernorm",
    mlp_in="post_attention_layernorm",
    mlp_hidden="into mlp.dense_4h_to_h",
    mlp_out="post_mlp_dropout",
    final="into gpt_neox.final_layer_norm",
    final_norm="gpt_neox.final_layer_norm",
    isolates=True,
)
BLOOM = Family(
    blocks="transformer.h",
    embed="transformer.word_embeddings_layernorm",
    attn_in="input_layernorm",
    attn_q="self_attention.query_key_value",
    attn_k="self_attention.query_key_value",
    attn_v="self_attention.query_key_value",
    fused="interleaved",
    attn_pattern="self_attention.attention_dropout",
    attn_z="into self_attention.dense",
    attn_heads="self_attention.dense",
    attn_out="self_attention.dense",
    resid_mid="self_attention",
    mlp_in="post_attention_layernorm",
    mlp_hidden="into mlp.dense_4h_to_h",
    mlp_out="mlp.dense_4h_to_h",
    final="into transformer.ln_f",
    final_norm="transformer.ln_f",
)
OPT = Family(
    blocks="model.decoder.layers",
    embed="into model.decoder.layers.0",
    attn_in="self_attn_layer_norm",
    attn_q="self_attn.q_proj",
    attn_k="self_attn.k_proj",
    attn_v="self_attn.v_proj",
    attn_pattern="kernel self_attn",
    attn_z="into self_attn.out_proj",
    attn_heads="self_attn.out_proj",
    attn_out="self_attn",
    resid_mid="into final_layer_norm",
    mlp_in="final_layer_norm",
    mlp_hidden="into fc2",
    mlp_out="fc2",
    final="into model.decoder.final_layer_norm",
    final_norm="model.decoder.final_layer_norm",
    flat=True,
)
BERT = Family(
    blocks="bert.encoder.layer",
    embed="bert.embeddings",
    attn_in="into attention.self",
    attn_q="attention.self.query",
    attn_k="attention.self.key",
    attn_v="attention.self.value",
    attn_pattern="kernel attention.self",
    attn_z="into attention.output.dense",
    attn_heads="attention.output.dense",
    attn_out="attention.output.dense",
    resid_mid="attention.output",
    mlp_in="into intermediate",
    mlp_hidden="into output.dense",
    mlp_out="output.dense",
    final="into cls",
    head="cls.predictions.decoder",
    causal=False,
)
MODERNBERT = Family(
    blocks="model.layers",
    embed="model.embeddings",
    attn_in="attn_norm",
    attn_q="attn.Wqkv",
    attn_k="attn.Wqkv",
    attn_v="attn.Wqkv",
    fused="stacked",
    attn_pattern="kernel attn",
    attn_z="into attn.Wo",
    attn_heads="attn.Wo",
    attn_out="attn",
    resid_mid="into mlp_norm",
    mlp_in="mlp_norm",
    mlp_hidden="into mlp.Wo",
    mlp_out="mlp",
    final="into model.final_norm",
    final_norm="model.final_norm",
    head="decoder",
    causal=False,
)

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA2,
    "phi3": PHI3,
    "olmo2": OLMO2,
    "mixtral": MIXTRAL,
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "opt": OPT,
    "bloom": BLOOM,
    "bert": BERT,
    "modernbert": MODERNBERT,
}
"""By `model_type` of the Hugging Face configuration."""

_rows: WeakKeyDictionary[nn.Module, Family] = WeakKeyDictionary()


def model_type_of(model: nn.Module) -> str:
    """The architecture's name in Hugging Face's configuration, "" for a module without one."""
    config: Any = getattr(model, "config", None)
    return getattr(config, "model_type", "")


def family_of(model: nn.Module) -> Family:
    """The places of a Hugging Face language model: those given to `set_family`, else the table's.

    Raises:
        InputError: the architecture is not in the table (names those that are); the model lacks a module that its
            family names, as a model without its head does; an option of the architecture that moves a place.
    """
    if model not in _rows:
        name = model_type_of(model)
        if name not in FAMILIES:
            raise no_family(name or type(model).__name__)
        set_family(model, _variant(name, FAMILIES[name], model.config))
    return _rows[model]


def no_family(architecture: str) -> InputError:
    """The refusal of an architecture that the table lacks, with those that it has."""
    return InputError(
        f"no family for architecture {architecture!r}; there are {', '.join(FAMILIES)}; "
        "for another one give a Family with its module paths"
    )


def set_family(model: nn.Module, family: Family) -> None:
    """Says where a model keeps its places, in place of the table.

    Raises:
        InputError: a module path that the model lacks, or a module that is not what its field needs.
    """
    check_family(model, family)
    _rows[model] = family


def n_blocks(model: nn.Module) -> int:
    """Number of blocks of a model whose family is known."""
    blocks = model.get_submodule(family_of(model).blocks)
    assert isinstance(blocks, nn.ModuleList)
    return len(blocks)


def _variant(name: str, family: Family, config: Any) -> Family:
    """The table's row as a configuration's options change it."""
    match name:
        case "gpt_neox" if config.use_parallel_residual:
            return family.model_copy(update={"resid_mid": ""})
        case "opt" if not config.do_layer_norm_before:
            after = {"attn_in": "into self_attn", "resid_mid": "self_attn_layer_norm", "mlp_in": "into fc1"}
            last = f"{family.blocks}.{config.num_hidden_layers - 1}"
            return family.model_copy(update={**after, "final": last, "final_norm": ""})
        case "bloom" if config.apply_residual_connection_post_layernorm:
            raise InputError("bloom with apply_residual_connection_post_layernorm has no residual stream that adds up")
        case _:
            return family
