"""Every member of `Code` answers like the dense one that it stands for."""

import numpy as np
import pytest
import torch

from sae.catalogue.contexts import pick
from sae.evaluation.active import active
from sae.intervention.latents import latent_values
from sae.kernels import Code, DenseCode, FixedCode, RaggedCode, sparse_decode, sparsify

N, D_SAE = 7, 12


def fixed(values: torch.Tensor) -> FixedCode:
    held, indices = values.topk(5)
    return FixedCode(held, indices, D_SAE)


def padded(values: torch.Tensor) -> RaggedCode:
    """Every latent stored, inactive ones with a value of zero, in falling order of latents."""
    indices = torch.arange(D_SAE).flip(0).expand(N, D_SAE)
    stored = values.gather(1, indices).flatten()
    return RaggedCode(stored, indices.flatten(), torch.arange(N + 1) * D_SAE, (N,), D_SAE)


def empty(values: torch.Tensor) -> RaggedCode:
    return sparsify(torch.zeros_like(values))


@pytest.fixture(params=[DenseCode, fixed, sparsify, padded, empty], ids=["dense", "fixed", "ragged", "padded", "empty"])
def code(request) -> Code:
    values = torch.randn(N, D_SAE, generator=torch.Generator().manual_seed(3)).relu()
    values[2] = 0
    return request.param(values)


def test_counts(code):
    dense = code.dense()
    assert torch.equal(code.l0(), (dense > 0).sum(1))
    assert torch.equal(code.fired(), (dense > 0).any(0))
    assert torch.equal(code.detach().dense(), dense)


def test_columns(code):
    found, expected = active(code), torch.nonzero(code.dense() > 0).numpy()
    order = np.lexsort((found.latents, found.tokens))
    assert (np.diff(found.tokens) >= 0).all()
    assert np.array_equal(np.stack([found.tokens, found.latents], 1)[order], expected)
    assert np.array_equal(found.values[order], code.dense().numpy()[expected[:, 0], expected[:, 1]])


def test_picked_pairs(code):
    rows, latents = (a.flatten() for a in np.meshgrid(np.arange(N), np.arange(D_SAE), indexing="ij"))
    assert np.array_equal(pick(code, rows, latents), code.dense().numpy().flatten())


def test_a_few_latents(code):
    latents = torch.tensor([11, 0, 5])
    assert torch.equal(latent_values(code, latents), code.dense()[:, latents])


def test_decoding(code):
    W_dec = torch.randn(D_SAE, 4, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(sparse_decode(code, W_dec), code.dense() @ W_dec)
