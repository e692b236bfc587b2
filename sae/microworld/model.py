"""The model that speaks the language: four Llama blocks over a word-level tokenizer, shipped as a Hugging Face folder.

Every text begins with <bos> and stands alone: no text has seen another, and positions start at 0.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sae.microworld.automaton import words

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BOS, UNKNOWN = SPECIAL = ("<pad>", "<bos>", "<unk>")


def folder() -> Path:
    """The folder of the shipped model: config, weights, tokenizer and the record of its training."""
    return Path(str(files("sae.microworld"))) / "weights"


@cache
def vocabulary() -> dict[str, int]:
    """Every word's token, after those of the special ones."""
    return {word: token for token, word in enumerate((*SPECIAL, *words()))}


def tokenizer() -> "PreTrainedTokenizerFast":
    """One token a word; <bos> is put before every text unless told otherwise."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    by_word = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    by_word.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    by_word.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    by_word.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary()[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=by_word,
        pad_token=PAD,
        bos_token=BOS,
        unk_token=UNKNOWN,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def untrained(seed: int) -> "LlamaForCausalLM":
    """The shipped model's shape with random weights: the control that has seen no text."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=vocabulary()[PAD],
        bos_token_id=vocabulary()[BOS],
        eos_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()
