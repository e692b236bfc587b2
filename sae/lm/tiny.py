"""A tiny random model of every family, to prove laws on in milliseconds.

All weights are random, also those that initialise to 0 or 1 (biases, norms): a law that holds only because a bias is
zero must fail here. Options that change sums are on: soft-caps, sliding windows shorter than the texts, grouped heads.
"""

from typing import Any

import torch
from torch import nn

from sae.core.random import generator
from sae.lm.families import FAMILIES

N_VOCAB = 48
N_POSITIONS = 64
_LLAMA = {
    "vocab_size": N_VOCAB,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": N_POSITIONS,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SLIDING = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
_SCORES = {"sliding_window": 6, "query_pre_attn_scalar": 4, "final_logit_softcapping": 3.0}
_TYPES = ["sliding_attention", "full_attention", "sliding_attention"]
_UNGROUPED = {key: value for key, value in _LLAMA.items() if key not in ("num_key_value_heads", "head_dim")}
_OPT = {**_UNGROUPED, "ffn_dim": 24, "word_embed_proj_dim": 16}
_ENCODER = {**_UNGROUPED, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**_LLAMA, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {**_LLAMA, "sliding_window": 6}),
    "qwen2": ("qwen2", {**_LLAMA, **_SLIDING}),
    "qwen3": ("qwen3", {**_LLAMA, **_SLIDING}),
    "gemma": ("gemma", _LLAMA),
    "gemma2": ("gemma2", {**_LLAMA, **_SCORES}),
    "gemma3": ("gemma3_text", {**_LLAMA, **_SCORES, "layer_types": _TYPES}),
    "phi3": ("phi3", {**_LLAMA, "sliding_window": 6}),
    "olmo2": ("olmo2", {**_LLAMA, "attention_bias": True}),
    "mixtral": ("mixtral", {**_LLAMA, "sliding_window": 6, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "gpt2": (
        "gpt2",
        {"vocab_size": N_VOCAB, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": N_POSITIONS}
        | {"bos_token_id": 1, "eos_token_id": 2},
    ),
    "gpt_neox": ("gpt_neox", _UNGROUPED),
    "gpt_neox_sequential": ("gpt_neox", {**_UNGROUPED, "use_parallel_residual": False}),
    "opt": ("opt", _OPT),
    "opt_post": ("opt", {**_OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 8}),
    "bloom": ("bloom", {"vocab_size": N_VOCAB, "hidden_size": 16, "n_layer": 3, "n_head": 4}),
    "bert": ("bert", _ENCODER),
    "modernbert": (
        "modernbert",
        {**_ENCODER, "local_attention": 6, "norm_bias": True, "attention_bias": True, "mlp_bias": True},
    ),
}
"""Name → (model_type, configuration)."""


def tiny(name: str, seed: int = 0, eager: bool = True) -> nn.Module:
    """A tiny random language model of 3 blocks, d_model 16, 48 tokens, 64 positions, in evaluation mode.

    Args:
        name: a key of `TINY`.
        seed: of the weights.
        eager: the attention kernel that rounds alike whether or not its weights are read; else the model's default.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    model_type, options = TINY[name]
    auto = AutoModelForCausalLM if FAMILIES[model_type].causal else AutoModelForMaskedLM
    kernel = {"attn_implementation": "eager"} if eager else {}
    model = auto.from_config(AutoConfig.for_model(model_type, **options), **kernel)
    stream = generator(seed, "tiny", name)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=stream)
            if weight.ndim > 1:
                weight.copy_(noise / weight.shape[-1] ** 0.5)
            else:
                one = 1.0 if "norm" in path.lower() or "ln_" in path else 0.0
                weight.copy_(one * (path.endswith("weight") and not name.startswith("gemma")) + 0.3 * noise)
    return model.requires_grad_(False).eval()
