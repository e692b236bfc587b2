"""The penalty that a peer gets in the benchmark leads to the l0 that all are compared at, wherever it lies."""

import math
from collections.abc import Callable

import pytest
from peers.penalty import N_TRIES, WITHIN, Try, nearest, sought


def search(l0_of: Callable[[float], float], first: float = 1.0) -> tuple[list[Try[None]], bool]:
    """All tries, and whether the nearest is within what is wanted."""
    tries = sought(lambda penalty: (l0_of(penalty), None), first, wanted=6)
    off = abs(math.log(max(nearest(tries, 6).l0, 1e-3) / 6))
    return tries, off <= math.log(1 + WITHIN) + 1e-9


@pytest.mark.parametrize("steepness", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("at", [1e-5, 0.01, 0.4, 1.0, 5.0, 80.0, 700.0, 5e5])
@pytest.mark.parametrize("first", [1.0, 30.0])
def test_a_penalty_is_found_wherever_it_lies(steepness: float, at: float, first: float) -> None:
    tries, is_near = search(lambda penalty: 6 * (at / penalty) ** steepness, first)
    assert is_near
    assert nearest(tries, 6) is tries[-1]


@pytest.mark.parametrize("at", [0.01, 0.4, 5.0])
def test_a_penalty_that_raises_l0_is_followed_down(at: float) -> None:
    """dictionary_learning's jumprelu at small rates: the pull to its target moves encoders, not thresholds."""
    assert search(lambda penalty: 6 * (penalty / at) ** 0.5)[1]


def test_the_lowest_place_of_a_valley_is_closed_in_on() -> None:
    tries, _ = search(lambda penalty: 10 + abs(math.log(penalty / 12)))
    assert nearest(tries, 6).l0 < 10.5


@pytest.mark.parametrize("l0", [727.0, 3.8, 0.0])
def test_an_l0_that_no_penalty_moves_ends_the_search(l0: float) -> None:
    tries, is_near = search(lambda _: l0)
    assert not is_near
    assert len({t.penalty for t in tries}) == len(tries) == N_TRIES
    assert min(t.penalty for t in tries) < 1e-3 or max(t.penalty for t in tries) > 1e3


def test_noise_of_a_plateau_does_not_turn_the_search_back() -> None:
    """As SAELens' jumprelu at 12 times its rate: flat where it begins, and what is wanted far below."""
    assert search(lambda penalty: 3.7 - 0.1 * math.cos(penalty) if penalty > 20 else 7 / penalty**0.2, 59_049.0)[1]


def test_a_dead_end_is_left_for_what_lies_between() -> None:
    """Nothing fires at all beyond a penalty, as with an L1 that killed everything."""
    assert search(lambda penalty: 400 / penalty if penalty < 100 else 0.0)[1]
