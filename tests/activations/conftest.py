"""A tiny random model that reads words, texts of a few of them, and folders with known rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sae.activations.config import Compression, Encoding
from sae.activations.contents import Contents, SiteContents
from sae.activations.encoding import encode, rows_of, values
from sae.activations.finished import remove_sums
from sae.activations.rows import Rows
from sae.activations.scale import write_moments
from sae.activations.shard_writer import Storage
from sae.activations.split_writer import SplitWriter
from sae.activations.stream import StreamWriter
from sae.core.splits import SPLITS
from sae.core.streams import Moments
from sae.lm.corpus import Text
from sae.lm.documents import Document
from sae.lm.load import LoadedModel
from sae.lm.packing import Packing
from sae.lm.tiny import N_VOCAB, tiny

WORDS = [f"w{i}" for i in range(N_VOCAB - 3)]


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Words of `WORDS`, a BOS before each text."""
    vocabulary = {"<unk>": 0, "<bos>": 1, "<eos>": 2, **{word: i + 3 for i, word in enumerate(WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    return LoadedModel(tiny("llama"), word_tokenizer(), "0" * 64, "tiny")


def some_texts(n: int, seed: int = 0, longest: int = 20) -> list[Text]:
    """Texts of 1 to `longest` random words, each unlike the others."""
    random = np.random.default_rng(seed)
    return [Text(" ".join(random.choice(WORDS, random.integers(1, longest + 1)))) for _ in range(n)]


@pytest.fixture(scope="session")
def texts() -> list[Text]:
    return some_texts(200)


def row(document: int, position: int, d: int, offset: float = 0.0) -> torch.Tensor:
    """A row that says where it comes from."""
    return torch.full((d,), offset) + torch.tensor([document, position] + [0.0] * (d - 2))


def rows(document: int, length: int, sites: dict[str, torch.Tensor]) -> Rows:
    """The rows of a document that is alone in its window."""
    whole = np.full(length, document)
    positions = np.arange(length)
    nothing = np.zeros((length, 2), np.int64)
    return Rows(whole, positions + 1, whole, positions, positions + document, nothing, sites)


def write(
    folder: Path,
    n_documents: int,
    length: int,
    sites: dict[str, int],
    encoding: Encoding,
    shard_rows: int,
    compression: Compression = "none",
) -> None:
    """Documents 0 … n−1 of `length` tokens; nine tenths train, then validation, then test."""
    tokens = StreamWriter(folder, [1])
    entries = tuple(SiteContents(name=name, d=d) for name, d in sites.items())
    storage = Storage(folder, entries, encoding, compression, shard_rows, n_documents + length, length)
    writers = {split: SplitWriter(storage, split) for split in SPLITS}
    moments = {name: Moments(d) for name, d in sites.items()}
    for i in range(n_documents):
        split = SPLITS[0 if i < 0.9 * n_documents else 1 if i < 0.95 * n_documents else 2]
        tokens.append([Document(i, np.arange(length, dtype=np.int32) + i, split, i)])
        found = {
            name: torch.stack([row(i, p, d, 100.0 * number) for p in range(length)])
            for number, (name, d) in enumerate(sites.items())
        }
        writers[split].append(rows(i, length, found))
        for name, x in found.items():
            if split == "train":
                moments[name].update(values(rows_of(encode(x, encoding), encoding), encoding))
    for writer in writers.values():
        writer.finish()
    shards = tuple(shard.contents for split in SPLITS for shard in writers[split].finished)
    remove_sums(folder)
    tokens.close()
    write_moments(folder, moments)
    Contents(
        dtype=encoding, compression=compression, packing=Packing(window=length), sites=entries, shards=shards
    ).write(folder)


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., None]:
    """Writes a folder of known rows without a model."""
    return write
