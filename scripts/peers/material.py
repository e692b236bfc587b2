"""What every contender of the harvest benchmark reads: one random model of GPT-2's shape, and documents as token ids.

The model is saved once in the Hugging Face layout. Full documents hold exactly a window of tokens, so that nobody pads
and nobody packs; short ones have log-uniform lengths from `SHORTEST` tokens to a window, as chats and headlines do.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae.lm.corpus import Text
from sae.lm.load import LoadedModel, load_model

SHORTEST = 8
N_SPECIAL = 2


@dataclass(frozen=True)
class Shape:
    """The model, the windows and how much is harvested, how often."""

    n_layers: int
    d_model: int
    n_heads: int
    n_vocab: int
    window: int
    batch: int
    """Windows in a forward pass."""
    n_tokens: int
    """Tokens in one run of a contender."""
    n_rounds: int

    @property
    def blocks(self) -> tuple[int, int, int]:
        """A quarter, half and three quarters up; one site alone is the last of them."""
        return self.n_layers // 4 - 1, self.n_layers // 2 - 1, self.n_layers * 3 // 4 - 1

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(f"blocks.{block}.resid_post" for block in self.blocks)


GPT2_SMALL = Shape(12, 768, 12, 50257, window=128, batch=32, n_tokens=16_384, n_rounds=7)
SIX_LAYERS = Shape(6, 384, 6, 8192, window=128, batch=32, n_tokens=65_536, n_rounds=4)
"""A model so small that what a library does beside the forward pass shows."""
QUICK = Shape(4, 32, 2, 512, window=32, batch=8, n_tokens=2_048, n_rounds=1)
STORIES = Shape(5, 64, 8, 512, window=256, batch=32, n_tokens=131_072, n_rounds=7)
"""What is harvested from stories260K."""
Documents = list[list[int]]


def save_model(shape: Shape, folder: Path) -> None:
    """Writes the model and a tokenizer whose words are `w<id>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_layer": shape.n_layers, "n_embd": shape.d_model, "n_head": shape.n_heads}
    config = GPT2Config(**sizes, vocab_size=shape.n_vocab, n_positions=256, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    words = {"<bos>": 0, "<unk>": 1, **{f"w{i}": i for i in range(N_SPECIAL, shape.n_vocab)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {f"{role}_token": "<bos>" for role in ("bos", "eos", "pad")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special).save_pretrained(folder)


def full_documents(shape: Shape) -> Documents:
    """Documents of exactly a window each."""
    return _documents(shape, np.full(shape.n_tokens // shape.window, shape.window))


def short_documents(shape: Shape) -> Documents:
    """Documents of log-uniform lengths, of `n_tokens` together but for the last."""
    random = np.random.default_rng(1)
    lengths = np.exp(random.uniform(np.log(SHORTEST), np.log(shape.window + 1), shape.n_tokens // SHORTEST)).astype(int)
    return _documents(shape, lengths[: int(np.searchsorted(lengths.cumsum(), shape.n_tokens))])


def _documents(shape: Shape, lengths: np.ndarray) -> Documents:
    random = np.random.default_rng(0)
    return [random.integers(N_SPECIAL, shape.n_vocab, n).tolist() for n in lengths]


class Pretokenised:
    """A tokenizer that looks up the ids of texts that it knows, so that tokenising takes no time; else the real one."""

    def __init__(self, tokenizer: Any, ids: dict[str, list[int]]) -> None:
        self._tokenizer, self._ids = tokenizer, ids

    def __call__(self, texts: str | list[str], **options: Any) -> Any:
        if isinstance(texts, str):
            return self._tokenizer(texts, **options)
        return {"input_ids": [self._ids[text] for text in texts]}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@dataclass(frozen=True)
class Reading:
    """A model and its texts, tokenised beforehand."""

    loaded: LoadedModel
    texts: list[Text]


def of_ids(folder: Path, documents: Documents, dtype: str = "float32") -> Reading:
    """The saved model with documents given as ids."""
    texts = [" ".join(f"w{i}" for i in ids) for ids in documents]
    return _reading(load_model(str(folder), dtype), texts, documents)


def of_texts(folder: Path, texts: Sequence[str], n_tokens: int, dtype: str = "float32") -> Reading:
    """Any model with real texts, as many as hold `n_tokens` tokens."""
    loaded = load_model(str(folder), dtype)
    encoded = loaded.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    n = int(np.searchsorted(np.cumsum([len(ids) for ids in encoded]), n_tokens)) + 1
    return _reading(loaded, list(texts)[:n], encoded[:n])


def _reading(loaded: LoadedModel, texts: list[str], documents: Documents) -> Reading:
    tokenizer = Pretokenised(loaded.tokenizer, dict(zip(texts, documents, strict=True)))
    known = LoadedModel(loaded.model, tokenizer, loaded.fingerprint, loaded.name)
    return Reading(known, [Text(text) for text in texts])


def write_settings(file: Path, shape: Shape, model: Path, documents: Documents, n_threads: int) -> None:
    """What a peer's program reads."""
    settings = {**asdict(shape), "block": shape.blocks[-1], "model": str(model), "n_threads": n_threads}
    file.write_text(json.dumps({**settings, "documents": documents}), encoding="utf-8")
