"""Laws of matching: a shuffled copy is found whole, chance is chance, and the optimum is the optimum."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae.core.errors import InputError
from sae.core.matching import MOST_ASSIGNED, Matching, Rows, assigned, chance, match, mutual
from sae.core.random import numpy_generator

METHODS = (assigned, mutual)


def rows(n: int, d: int, *names: int) -> Rows:
    return numpy_generator(0, "rows", *names).normal(size=(n, d))


def common_direction(*names: int) -> Rows:
    """Rows of which about half the length is one direction, the same whatever the name."""
    x = rows(400, 48, *names) / np.sqrt(48)
    x[:, 0] += 1
    return x


@pytest.mark.parametrize("method", METHODS)
def test_a_shuffled_and_rescaled_copy_is_found_whole(method) -> None:
    x, random = rows(200, 16), numpy_generator(1)
    order, lengths = random.permutation(200), random.uniform(0.1, 10, (200, 1))
    found = method(x, (x * lengths)[order])
    assert found.share() == 1
    assert found.mean_cosine == pytest.approx(1)
    assert np.array_equal(order[found.right], found.left)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_no_other_matching_has_a_larger_sum(n: int, m: int, name: int) -> None:
    a, b = rows(n, 3, name), rows(m, 3, name, 1)
    found = assigned(a, b)
    cosines = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    if n > m:
        cosines = cosines.T
    best = max(
        sum(cosines[i, j] for i, j in enumerate(columns))
        for columns in itertools.permutations(range(cosines.shape[1]), cosines.shape[0])
    )
    assert found.cosines.sum() == pytest.approx(best)
    assert len(found.cosines) == min(n, m)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_mutual_neighbours_are_a_matching_each_the_nearest_of_the_other(n: int, m: int, name: int) -> None:
    a, b = rows(n, 4, name), rows(m, 4, name, 1)
    found = mutual(a, b)
    assert 1 <= len(found.left) == len(set(found.left)) == len(set(found.right))
    cosines = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    np.testing.assert_allclose(found.cosines, cosines[found.left].max(1))
    np.testing.assert_allclose(found.cosines, cosines[:, found.right].max(0))
    assert np.maximum(found.cosines, 0).sum() <= np.maximum(assigned(a, b).cosines, 0).sum() + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_swapping_the_sets_swaps_the_pairs(method) -> None:
    a, b = rows(70, 8, 1), rows(50, 8, 2)
    there, back = method(a, b), method(b, a)
    assert there.share(0.5) == back.share(0.5)
    assert set(zip(there.left, there.right, strict=True)) == set(zip(back.right, back.left, strict=True))


def test_half_a_copy_has_share_one_half() -> None:
    a = rows(300, 128)
    b = np.concatenate([a[:150], rows(150, 128, 1)])
    for method in METHODS:
        assert method(a, b).share() == 0.5
    # Rows without a partner count: fifty rows of the copy are missing.
    assert assigned(a, b[50:]).share() == 200 / 550


def test_two_rows_that_were_merged_leave_one_without_a_partner() -> None:
    a = rows(40, 64)
    merged = np.concatenate([a[2:], (a[0] + a[1])[None]])
    found = mutual(a, merged)
    assert (found.cosines > 0.99).sum() == 38
    assert found.share() == pytest.approx(2 * (found.cosines > 0.7).sum() / 79)
    assert assigned(a, merged).share() <= 78 / 79


@pytest.mark.parametrize("make", [rows, common_direction], ids=["isotropic", "cone"])
def test_independent_sets_are_at_the_null(make) -> None:
    draw = (lambda *names: rows(400, 48, *names)) if make is rows else common_direction
    found = [assigned(draw(i), draw(i + 100)) for i in range(4)]
    null = [assigned(draw(i), chance(draw(i + 100), seed=i)) for i in range(4)]
    assert np.mean([m.mean_cosine for m in found]) == pytest.approx(np.mean([m.mean_cosine for m in null]), abs=0.01)
    assert np.mean([m.share() for m in found]) == pytest.approx(np.mean([m.share() for m in null]), abs=0.03)


def test_rotation_and_permutation_would_be_too_easy_to_beat() -> None:
    a, b = common_direction(1), common_direction(2)
    turned = b @ np.linalg.qr(rows(48, 48))[0]
    permuted = numpy_generator(0).permuted(b, axis=1)
    for null in (turned, permuted):
        assert assigned(a, null).mean_cosine < assigned(a, b).mean_cosine - 0.2


def test_the_null_forgets_a_copy_and_keeps_lengths_mean_and_spectrum() -> None:
    x = common_direction(1) * numpy_generator(3).uniform(0.5, 2, (400, 1))
    null = chance(x, seed=0)
    np.testing.assert_allclose(np.linalg.norm(null, axis=1), np.linalg.norm(x, axis=1))
    assert assigned(x, x).share() == 1
    independent = assigned(x, common_direction(2))
    assert assigned(x, null).mean_cosine == pytest.approx(independent.mean_cosine, abs=0.03)
    unit = [y / np.linalg.norm(y, axis=1)[:, None] for y in (x, null)]
    np.testing.assert_allclose(unit[0].mean(0), unit[1].mean(0), atol=0.03)
    np.testing.assert_allclose(np.cov(unit[0].T), np.cov(unit[1].T), atol=0.02)
    assert not np.allclose(chance(x, seed=0, draw=1), null)
    assert np.array_equal(chance(x, seed=0), null)


def test_intervals_hold_their_value_and_narrow_with_more_rows() -> None:
    def half(n: int) -> Matching:
        a = rows(n, 96)
        return assigned(a, np.concatenate([a[: n // 2], rows(n - n // 2, 96, 1)]))

    few, many = half(60), half(600)
    for found in (few, many):
        for value, interval in (
            (found.share(), found.share_interval(0)),
            (found.mean_cosine, found.cosine_interval(0)),
        ):
            assert interval.low < value < interval.high
    assert _width(many) < 0.5 * _width(few)
    whole = assigned(rows(50, 8), rows(50, 8)).share_interval(0)
    assert (whole.low, whole.high) == (1, 1)


def _width(found: Matching) -> float:
    interval = found.share_interval(0)
    return interval.high - interval.low


def test_many_rows_take_the_cheap_way() -> None:
    x = rows(MOST_ASSIGNED + 1, 4)
    few = rows(10, 4)
    assert match(few, few).method == "assigned"
    found = match(x, few)
    assert found.method == "mutual"
    assert len(found.left) <= 10


def test_what_cannot_be_matched_is_refused() -> None:
    x = rows(5, 4)
    for a, b, words in (
        (x[:0], x, "needs rows on both sides, got 0 and 5"),
        (x, x[:, :3], "width 4 and 3"),
        (x, np.where(x == x[0, 0], np.nan, x), "not finite"),
    ):
        for method in METHODS:
            with pytest.raises(InputError, match=words):
                method(a, b)
