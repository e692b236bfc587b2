"""Where each Hugging Face architecture keeps the parts of its residual stream.

A row of the table gives module paths (`{l}` is the block's number) and the quirks that change a sum: parallel blocks
(attention and MLP read the same residual, so there is no place between them), norms after attention and MLP (what is
added to the residual is the norm's output), and norms that multiply by one plus their weight.
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sae.core.errors import InputError


@dataclass(frozen=True)
class Family:
    """Module paths of one architecture; those of a block are relative to it."""

    embed: str
    """Its output is the first residual, scales and position embeddings included."""
    blocks: str
    attn_norm: str
    attn_out: str
    """Its output is what attention adds to the residual."""
    mlp_norm: str
    mlp_out: str
    """Its output is what the MLP adds to the residual."""
    final_norm: str
    head: str = "lm_head"
    norm_offset: float = 0.0
    """Norms multiply by this plus their weight."""
    parallel: bool = False
    """Attention and MLP read the same residual."""
    isolates: bool = True
    """Documents in one window never see one another where position ids restart, with neither mask nor cache."""


LLAMA = Family(
    embed="model.embed_tokens",
    blocks="model.layers",
    attn_norm="input_layernorm",
    attn_out="self_attn",
    mlp_norm="post_attention_layernorm",
    mlp_out="mlp",
    final_norm="model.norm",
)
GEMMA = replace(LLAMA, norm_offset=1.0)
GEMMA2 = replace(
    GEMMA,
    attn_out="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_out="post_feedforward_layernorm",
)
GPT2 = Family(
    embed="transformer.drop",
    blocks="transformer.h",
    attn_norm="ln_1",
    attn_out="attn",
    mlp_norm="ln_2",
    mlp_out="mlp",
    final_norm="transformer.ln_f",
)
GPT_NEOX = Family(
    embed="gpt_neox.emb_dropout",
    blocks="gpt_neox.layers",
    attn_norm="input_layernorm",
    attn_out="post_attention_dropout",
    mlp_norm="post_attention_layernorm",
    mlp_out="post_mlp_dropout",
    final_norm="gpt_neox.final_layer_norm",
)

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
}
"""By `model_type` of the Hugging Face configuration."""


def model_type_of(model: nn.Module) -> str:
    """The architecture's name in Hugging Face's configuration, "" for a module without one."""
    config: Any = getattr(model, "config", None)
    return getattr(config, "model_type", "")


def family_of(model: nn.Module) -> Family:
    """The row of the table for a Hugging Face causal language model.

    Raises:
        InputError: the architecture is not in the table; names those that are.
    """
    name = model_type_of(model)
    if name not in FAMILIES:
        raise InputError(
            f"no family for architecture {name or type(model).__name__!r}; there are {', '.join(FAMILIES)}"
        )
    family = FAMILIES[name]
    if name == "gpt_neox":
        config: Any = model.config
        return replace(family, parallel=bool(config.use_parallel_residual))
    return family


def n_blocks(model: nn.Module) -> int:
    """Number of blocks of a model whose family is known."""
    blocks = model.get_submodule(family_of(model).blocks)
    assert isinstance(blocks, nn.ModuleList)
    return len(blocks)
