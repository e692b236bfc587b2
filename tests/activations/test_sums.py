"""Sums over rows: merging parts equals the whole, and a file gives them back to the bit."""

import numpy as np
import torch

from sae.activations.sums import SiteSums
from sae.core.random import generator

N, D, VOCABULARY = 3000, 12, 40


def summed(start: int, stop: int) -> SiteSums:
    x = torch.randn(N, D, generator=generator(0)) * torch.linspace(0.1, 9, N)[:, None] + 3
    positions = np.arange(N, dtype=np.int32) % 700
    ids = (np.arange(N, dtype=np.int32) * 7) % VOCABULARY
    sums = SiteSums(D, VOCABULARY, 500)
    for first in range(start, stop, 1024):
        part = slice(first, min(stop, first + 1024))
        sums.update(x[part], positions[part], ids[part])
    return sums


def test_merging_parts_equals_the_whole() -> None:
    whole, left, right = summed(0, N), summed(0, 1100), summed(1100, N)
    left.merge(right)
    torch.testing.assert_close(left.moments.mean, whole.moments.mean)
    torch.testing.assert_close(left.moments.variance, whole.moments.variance)


def test_a_file_gives_them_back_to_the_bit() -> None:
    sums = summed(0, N)
    again = SiteSums.of(sums.tensors())
    for name, tensor in sums.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name
    again.merge(summed(0, 500))
    assert not torch.equal(again.moments.sum, sums.moments.sum), "the file's tensors must not be shared"
