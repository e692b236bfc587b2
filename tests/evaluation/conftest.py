"""A tiny random model, text for it, and dictionaries that reconstruct everything or little."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sae.core.random import generator
from sae.dictionary import Dictionary, DictionaryConfig, TopK
from sae.evaluation.splicing import Window
from sae.lm.documents import Document
from sae.lm.load import LoadedModel
from sae.lm.packing import Packing, batches, isolates
from sae.lm.tiny import N_VOCAB, tiny

WIDTH = 16


@pytest.fixture(scope="session", params=["llama", "bloom"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """A family that isolates documents within a window, and one that reads one a row."""
    return LoadedModel(tiny(request.param), None, "0" * 64, "tiny")


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 20, 25).tolist()
    return [Document(i, random.integers(3, N_VOCAB, n).astype(np.int32), "test", i) for i, n in enumerate(lengths)]


@pytest.fixture(scope="session")
def windows_of(loaded: LoadedModel, documents: list[Document]) -> Callable[[int], list[Window]]:
    """Packed windows, so many in a batch, in which all but the first position of a document is harvested."""

    def windows_of(n: int) -> list[Window]:
        pieces = [piece for document in documents for piece in document.pieces(32)]
        packed = batches(pieces, Packing(window=32, rows="isolated" if isolates(loaded) else "single"), n)
        return [Window(p, p.documents, (p.positions > 0) & p.valid) for p in packed]

    return windows_of


@pytest.fixture(scope="session")
def windows(windows_of: Callable[[int], list[Window]]) -> list[Window]:
    return windows_of(3)


@pytest.fixture
def identity_dictionary() -> Dictionary:
    """relu(x) and relu(−x) are its latents, half of which are active: x comes back whole."""
    config = DictionaryConfig(d_in=WIDTH, d_out=WIDTH, d_sae=2 * WIDTH, activation=TopK(k=WIDTH))
    rows = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
    return _tied(config, rows, torch.zeros(len(rows)))


@pytest.fixture
def random_dictionary() -> Dictionary:
    """Random directions, the first of them with a high threshold."""
    config = DictionaryConfig(d_in=WIDTH, d_out=WIDTH, d_sae=24, activation=TopK(k=3))
    rows = torch.nn.functional.normalize(torch.randn(24, WIDTH, generator=generator(0, "rows")), dim=1)
    return _tied(config, rows, torch.linspace(-2, 0.5, 24))


def _tied(config: DictionaryConfig, rows: torch.Tensor, thresholds: torch.Tensor) -> Dictionary:
    dictionary = Dictionary(config)
    with torch.no_grad():
        dictionary.encoder_rows.copy_(rows)
        dictionary.W_dec.copy_(rows)
        dictionary.b_enc.copy_(thresholds)
    return dictionary
