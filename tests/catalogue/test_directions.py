"""Neighbours and logit effects equal brute force, whatever the blocks."""

import numpy as np
import pytest
import torch

from sae.catalogue import effects as effects_module
from sae.catalogue import neighbours as neighbours_module
from sae.catalogue.effects import effects, no_effects, writes_to_residual
from sae.catalogue.neighbours import neighbours
from sae.core.random import generator

D = 6


def directions(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, D, generator=generator(seed, "directions"))


@pytest.mark.parametrize("cells", [1, 70, 2**20])
def test_neighbours_equal_brute_force(monkeypatch: pytest.MonkeyPatch, cells: int):
    monkeypatch.setattr(neighbours_module, "_CELLS", cells)
    rows = directions(23) * torch.linspace(0.1, 5, 23)[:, None]
    found = neighbours(rows, 4)
    cosines = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=-1)
    cosines.fill_diagonal_(-2)
    expected = cosines.sort(dim=1, descending=True)
    torch.testing.assert_close(found.cosines, expected.values[:, :4])
    assert torch.equal(found.latents, expected.indices[:, :4])


def test_there_are_no_more_neighbours_than_other_latents():
    assert neighbours(directions(3), 8).latents.shape == (3, 2)
    assert neighbours(directions(1), 8).latents.shape == (1, 0)
    assert neighbours(directions(5), 0).latents.shape == (5, 0)


@pytest.mark.parametrize("cells", [1, 100, 2**20])
def test_promoted_and_suppressed_tokens_equal_brute_force(monkeypatch: pytest.MonkeyPatch, cells: int):
    monkeypatch.setattr(effects_module, "_CELLS", cells)
    rows, unembedding = directions(9), directions(31, seed=1).T
    found = effects(rows, unembedding, 5)
    logits = (rows @ unembedding).numpy()
    order = np.argsort(-logits, axis=1)
    np.testing.assert_array_equal(found.promoted_ids, order[:, :5])
    np.testing.assert_array_equal(found.suppressed_ids, order[:, ::-1][:, :5])
    np.testing.assert_allclose(found.promoted_logits, np.take_along_axis(logits, order[:, :5], 1), rtol=1e-5)
    np.testing.assert_allclose(found.suppressed_logits[:, 0], logits.min(1), rtol=1e-5)


def test_a_vocabulary_smaller_than_what_is_asked_for_is_given_whole():
    assert effects(directions(2), directions(4).T, 10).promoted_ids.shape == (2, 4)


@pytest.mark.parametrize(
    ("site", "is_residual"),
    [("blocks.0.resid_post", True), ("blocks.3.mlp_out", True), ("embed", True), ("blocks.0.mlp_in", False)],
)
def test_only_the_residual_stream_is_read_off(site: str, is_residual: bool):
    assert writes_to_residual(site) is is_residual
    assert no_effects(4).promoted_ids.shape == (4, 0)
