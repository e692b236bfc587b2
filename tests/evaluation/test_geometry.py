"""The shape of a dictionary: what is planted is found, and the order of latents does not matter."""

import numpy as np
import pytest
import torch

from sae.core.random import generator
from sae.dictionary import Dictionary, DictionaryConfig, TopK
from sae.evaluation.geometry import Geometry, Spread, geometry

N, D = 60, 32


def random_rows(n: int = N, d: int = D) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(0, "rows"))


def of(rows: torch.Tensor, encoder: torch.Tensor | None = None, target: str | None = None) -> Dictionary:
    config = DictionaryConfig(d_in=D, d_out=D, d_sae=len(rows), activation=TopK(k=3), site="embed", target=target)
    made = Dictionary(config)
    with torch.no_grad():
        made.W_dec.copy_(rows)
        made.encoder_rows.copy_(rows if encoder is None else encoder)
    return made


def none_dead(n: int = N) -> np.ndarray:
    return np.zeros(n, dtype=bool)


def test_planted_duplicates_are_found_and_dead_ones_are_not_counted():
    rows = random_rows()
    rows[:6] = 3 * rows[10:16]
    assert geometry(of(random_rows()), none_dead(), 0).duplicate_fraction == 0
    assert geometry(of(rows), none_dead(), 0).duplicate_fraction == pytest.approx(12 / N)
    dead = none_dead()
    dead[:6] = True
    found = geometry(of(rows), dead, 0)
    assert found.duplicate_fraction == 0
    assert found.n_firing == N - 6


def test_alignment_is_one_where_the_encoder_reads_what_the_decoder_writes():
    aligned = geometry(of(random_rows()), none_dead(), 0).encoder_decoder_cosine
    assert aligned is not None
    assert aligned.p05 == pytest.approx(1)
    turned = geometry(of(random_rows(), -random_rows()), none_dead(), 0).encoder_decoder_cosine
    assert turned is not None
    assert turned.p95 == pytest.approx(-1)
    assert geometry(of(random_rows(), target="final"), none_dead(), 0).encoder_decoder_cosine is None


def test_the_effective_rank_counts_dimensions():
    axes = torch.eye(D)
    assert geometry(of(axes), none_dead(D), 0).effective_rank == pytest.approx(D)
    assert geometry(of(axes[:5].repeat(6, 1)), none_dead(30), 0).effective_rank == pytest.approx(5)


def test_random_rows_are_as_near_as_chance_says():
    found = geometry(of(random_rows(400)), none_dead(400), 0)
    assert found.nearest_cosine is not None
    assert found.chance_nearest_cosine is not None
    assert found.nearest_cosine.p50 == pytest.approx(found.chance_nearest_cosine.p50, abs=0.03)


def test_the_order_of_latents_changes_nothing():
    rows, order = random_rows(), torch.randperm(N, generator=generator(1, "order"))
    one, other = (geometry(of(each), none_dead(), 0) for each in (rows, rows[order]))
    for name in set(Geometry.model_fields) - {"chance_nearest_cosine"}:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, Spread):
            assert list(vars(a).values()) == pytest.approx(list(vars(b).values()), abs=1e-6)
        else:
            assert a == pytest.approx(b)


def test_a_dictionary_without_firing_latents_has_no_neighbours():
    found = geometry(of(random_rows()), ~none_dead(), 0)
    assert found.nearest_cosine is found.chance_nearest_cosine is found.duplicate_fraction is None
