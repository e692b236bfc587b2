"""A tiny random model that reads words, its harvest, and a random dictionary with some dead latents, as artifacts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pipelines.stage import Inputs
from sae.activations.config import HarvestConfig
from sae.activations.harvest import Harvest
from sae.core.artifact import Artifact
from sae.core.random import generator
from sae.core.splits import Fractions
from sae.dictionary import Dictionary, DictionaryConfig, TopK
from sae.lm.corpus import Corpus, Text
from sae.lm.load import LoadedModel
from sae.lm.tiny import N_VOCAB, tiny

SITE, WIDTH, D_SAE, N_DEAD = "blocks.1.resid_post", 16, 40, 4
WORDS = [f"w{i}" for i in range(N_VOCAB - 3)]


def word_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0, "<bos>": 1, "<eos>": 2, **{word: i + 3 for i, word in enumerate(WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")


def some_texts(n: int) -> Iterator[Text]:
    """Some of them longer than a window, so that they become several documents."""
    random = np.random.default_rng(0)
    for _ in range(n):
        yield Text(" ".join(random.choice(WORDS, random.integers(2, 90))))


def dictionary(seed: int) -> Dictionary:
    made = Dictionary(DictionaryConfig(d_in=WIDTH, d_out=WIDTH, d_sae=D_SAE, activation=TopK(k=4), site=SITE))
    rows = torch.nn.functional.normalize(torch.randn(D_SAE, WIDTH, generator=generator(seed, "rows")), dim=1)
    with torch.no_grad():
        made.encoder_rows.copy_(rows)
        made.W_dec.copy_(rows)
        made.b_enc[:N_DEAD] = -1e6
    return made


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """What both stages are given."""
    model = LoadedModel(tiny("llama"), word_tokenizer(), "0" * 64, "tiny")
    harvest, train = tmp_path_factory.mktemp("harvest"), tmp_path_factory.mktemp("train")
    config = HarvestConfig(window=48, shard_rows=1000, fractions=Fractions(train=0.5, validation=0.1, test=0.4))
    for _ in Harvest(model, (SITE,), config, harvest).run(some_texts(120)):
        pass
    dictionary(0).save(train)
    dictionary(1).save(train / "untrained")
    return Inputs(
        seed=0,
        sites=(SITE,),
        max_tokens=10_000,
        device="cpu",
        parents={"harvest": Artifact(harvest, {}), "train": Artifact(train, {})},
        members=lambda: (),
        settings={},
        model_fingerprint=lambda: "0" * 64,
        model=lambda: model,
        texts=lambda: Corpus(some_texts(120)),
        concepts=list,
    )


class Silent:
    """Progress that nobody sees."""

    def update(self, done: int, total: int, unit: str, **values: float) -> None:
        assert 0 <= done <= total, unit

    def say(self, text: str) -> None:
        pass


@pytest.fixture(scope="session")
def progress() -> Silent:
    return Silent()


@pytest.fixture(scope="session")
def catalogue_folder(inputs: Inputs, progress: Silent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipelines.catalogue import CatalogueConfig, run

    folder = tmp_path_factory.mktemp("catalogue")
    run(CatalogueConfig(n_examples=5), inputs, folder, progress)
    return folder
