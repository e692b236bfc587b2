"""Sums over rows: merging parts equals the whole, and a file gives them back to the bit."""

import numpy as np
import pytest
import torch

from sae.activations.norms import N_BINS, edges, ends_of, range_of
from sae.activations.sampled import Sampled, every
from sae.activations.sums import SiteSums
from sae.core.random import generator

N, D, VOCABULARY = 3000, 12, 40
X = torch.randn(N, D, generator=generator(0)) * torch.linspace(0.1, 900, N)[:, None] + 3
POSITIONS = np.arange(N, dtype=np.int32) % 700
IDS = (np.arange(N, dtype=np.int32) * 7) % VOCABULARY


def summed(start: int, stop: int) -> SiteSums:
    sums = SiteSums(D, VOCABULARY, 500)
    for first in range(start, stop, 1024):
        part = slice(first, min(stop, first + 1024))
        sums.update(X[part], POSITIONS[part], IDS[part])
    return sums


@pytest.mark.parametrize("cut", [1, 1100, 2048, N - 1])
def test_merging_parts_equals_the_whole(cut: int) -> None:
    whole, left, right = summed(0, N), summed(0, cut), summed(cut, N)
    left.merge(right)
    for name, tensor in whole.tensors().items():
        if not name.startswith("sampled"):  # each part takes its own sample
            torch.testing.assert_close(left.tensors()[name], tensor, msg=name)
    assert left.sampled.n_seen == N


def test_sums_are_what_they_say() -> None:
    sums, x = summed(0, N), X.double()
    norms = x.norm(dim=1).numpy()
    torch.testing.assert_close(sums.moments.mean, x.mean(0))
    torch.testing.assert_close(sums.moments.variance, x.var(0, correction=0))
    assert sums.norms.histogram.sum() == N
    assert sums.norms.histogram[0].sum() == (POSITIONS % 500 == 0).sum()
    np.testing.assert_allclose(sums.norms.squares.sum(), (norms**2).sum())
    np.testing.assert_allclose(sums.norms.token_norms, np.bincount(IDS, norms, VOCABULARY))
    place = np.searchsorted(edges(), norms, "right") - 1
    assert (np.bincount(place, minlength=N_BINS) == sums.norms.histogram.sum(0)).all()


def test_a_file_gives_them_back_to_the_bit() -> None:
    sums = summed(0, N)
    again = SiteSums.of(sums.tensors())
    for name, tensor in sums.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name
    before = {name: tensor.clone() for name, tensor in sums.tensors().items()}
    again.merge(summed(0, 500))
    assert all(torch.equal(tensor, before[name]) for name, tensor in sums.tensors().items()), "memory is shared"


def test_ranges_cover_every_position_once() -> None:
    positions = np.arange(5000)
    found = range_of(positions)
    for index in np.unique(found).tolist():
        first, last = ends_of(index)
        assert (positions[found == index] == np.arange(first, min(last, 4999) + 1)).all()


def test_a_large_mean_costs_the_covariance_no_digits() -> None:
    x = torch.randn(20_000, 48, generator=generator(1)) + 1000
    sampled = Sampled(48)
    for part in x.split(1024):
        sampled.update(part)
    assert sampled.covariance.count == pytest.approx(len(x) / every(48), abs=1)
    eigenvalues = torch.linalg.eigvalsh(sampled.covariance.matrix)
    assert 0.75 < float(eigenvalues.min()) < float(eigenvalues.max()) < 1.25


@pytest.mark.parametrize("d", [7, 128, 300])
def test_the_covariance_is_that_of_every_two_columns(d: int) -> None:
    x = torch.randn(1500, d, generator=generator(d)) + torch.arange(d) / d
    sampled = Sampled(d)
    sampled.every = 1
    for n, part in ((700, x[:700]), (1500, x[700:])):
        sampled.update(part)
        wide = x[:n].double()
        torch.testing.assert_close(sampled.covariance.sum_products, wide.T @ wide, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("window", [32, 128, 1024])
def test_the_sample_does_not_fall_in_step_with_windows(window: int) -> None:
    sampled = Sampled(768)
    x = torch.zeros(window * 2000, 768 // 768)
    x[::window] = 1
    one = Sampled(1)
    one.every = sampled.every
    for part in x.split(1024):
        one.update(part)
    assert float(one.covariance.mean) * window == pytest.approx(1, abs=0.35)
