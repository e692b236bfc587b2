"""A tiny random model and a harvest of three of its sites."""

from collections.abc import Iterator

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sae.activations.config import HarvestConfig
from sae.activations.harvest import Harvest
from sae.activations.reader import Activations
from sae.lm.corpus import Text
from sae.lm.load import LoadedModel
from sae.lm.tiny import N_VOCAB, tiny

SITES = ("blocks.0.mlp_in", "blocks.0.mlp_out", "blocks.1.resid_post")
_WORDS = [f"w{i}" for i in range(N_VOCAB - 3)]


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0, "<bos>": 1, "<eos>": 2, **{word: i + 3 for i, word in enumerate(_WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")


def _texts(n: int) -> Iterator[Text]:
    random = np.random.default_rng(0)
    for _ in range(n):
        yield Text(" ".join(random.choice(_WORDS, random.integers(2, 60))))


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    return LoadedModel(tiny("llama"), _tokenizer(), "0" * 64, "tiny")


@pytest.fixture(scope="session")
def harvested(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Activations:
    folder = tmp_path_factory.mktemp("harvest")
    for _ in Harvest(loaded, SITES, HarvestConfig(window=48, dtype="float32"), folder).run(_texts(120)):
        pass
    return Activations(folder)
