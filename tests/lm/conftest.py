"""Tiny models of every family, a tokenizer of words, and the real small model where it is at hand."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sae.lm import LoadedModel, load_model
from sae.lm.tiny import N_VOCAB, TINY, tiny

STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260K"
WORDS = ["she", "he", "saw", "the", "cat", "cats", "are", "is", "good", "bad", "film", ".", "a", "girl", "boy"]
tiny_once = cache(tiny)


@pytest.fixture(params=list(TINY))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(family: str) -> nn.Module:
    return tiny_once(family)


@pytest.fixture(scope="session")
def ids() -> Tensor:
    """Three texts of twelve tokens."""
    return torch.randint(3, N_VOCAB, (3, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def mask() -> Tensor:
    """Twelve, nine and five of them real, padding on the right."""
    return (torch.arange(12)[None] < torch.tensor([12, 9, 5])[:, None]).long()


def tokenizer_of_words(bos: bool) -> PreTrainedTokenizerFast:
    words = {word: number for number, word in enumerate(["<unk>", "<bos>", "<eos>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>")


@pytest.fixture(scope="session")
def of_words() -> Callable[..., LoadedModel]:
    """A tiny model with a tokenizer of words, with or without BOS."""
    return lambda bos=True: LoadedModel(tiny_once("llama"), tokenizer_of_words(bos), "0" * 64, "tiny")


@pytest.fixture(scope="session")
def without_bos() -> LoadedModel:
    """A tiny model whose tokenizer knows no BOS, as Qwen's."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of_words(bos=False).backend_tokenizer, unk_token="<unk>", eos_token="<eos>"
    )
    return LoadedModel(tiny_once("llama"), tokenizer, "0" * 64, "tiny")


@pytest.fixture(scope="session")
def stories() -> LoadedModel:
    if not STORIES.is_dir():
        pytest.skip("the real small model is not beside the checkout (../shared/models/stories260K)")
    return load_model(str(STORIES))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A model folder as Hugging Face writes it."""
    folder = tmp_path / "a model"
    tiny_once("llama").save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    tokenizer_of_words(bos=True).save_pretrained(folder)
    return folder
