"""Merging statistics equals computing them whole; splits and random streams are stable."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sae.core.measures import fvu
from sae.core.random import generator, numpy_generator
from sae.core.splits import SPLITS, Fractions, split_of
from sae.core.streams import Covariance, Moments


@given(st.integers(1, 30), st.integers(1, 29))
def test_merged_moments_equal_whole_ones(n: int, cut: int) -> None:
    x = torch.randn(n, 4, generator=generator(n)) + 5
    whole, left, right = Moments(4), Moments(4), Moments(4)
    whole.update(x)
    left.update(x[:cut])
    right.update(x[cut:])
    left.merge(right)
    torch.testing.assert_close(left.mean, whole.mean)
    torch.testing.assert_close(left.variance, x.double().var(0, correction=0))


def test_merged_covariance_equals_the_whole_one() -> None:
    x = torch.randn(50, 4, generator=generator(0)) + 2
    parts = [Covariance(4), Covariance(4)]
    parts[0].update(x[:20])
    parts[1].update(x[20:])
    parts[0].merge(parts[1])
    torch.testing.assert_close(parts[0].matrix, torch.cov(x.double().T, correction=0))


def test_fvu_is_zero_for_the_identity_and_one_for_the_mean() -> None:
    x = torch.randn(100, 3, generator=generator(0))
    assert fvu(x, x) == 0
    assert abs(fvu(x, x.mean(0).expand_as(x)) - 1) < 1e-6


def test_splits_have_their_shares_and_never_change() -> None:
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    for i in range(20_000):
        counts[split_of(f"document {i}", Fractions())] += 1
    for split, share in (("train", 0.90), ("validation", 0.05), ("test", 0.05)):
        assert abs(counts[split] / 20_000 - share) < 0.01
    assert [split_of(text, Fractions()) for text in ("a", "b", "the cat")] == ["train", "train", "train"]


def test_named_streams_are_independent_of_each_other() -> None:
    assert numpy_generator(0, "a").random() == numpy_generator(0, "a").random()
    draws = {numpy_generator(seed, *names).random() for seed, names in ((0, "a"), (0, "b"), (1, "a"), (0, "ab"))}
    assert len(draws) == 4
