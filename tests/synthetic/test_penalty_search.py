"""The penalty that a peer gets in the benchmark leads to the l0 that all are compared at, wherever it lies."""

import math

import pytest
from peers.penalty import N_TRIES, WITHIN, nearest, sought


@pytest.mark.parametrize("steepness", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("at", [0.01, 0.4, 1.0, 5.0, 80.0, 700.0])
@pytest.mark.parametrize("first", [1.0, 30.0])
def test_a_penalty_is_found_wherever_it_lies(steepness: float, at: float, first: float) -> None:
    tries = sought(lambda penalty: (6 * (at / penalty) ** steepness, None), first, wanted=6)
    best = nearest(tries, 6)
    assert abs(math.log(best.l0 / 6)) <= math.log(1 + WITHIN) + 1e-9
    assert best is tries[-1]


@pytest.mark.parametrize("l0", [727.0, 3.8, 0.0])
def test_an_l0_that_no_penalty_moves_ends_the_search(l0: float) -> None:
    tries = sought(lambda penalty: (l0, penalty), 1.0, wanted=6)
    assert len(tries) <= N_TRIES
    assert all(1e-6 <= t.penalty <= 1e6 for t in tries)
    assert nearest(tries, 6) is tries[0]


def test_a_dead_end_is_left_for_what_lies_between() -> None:
    """Nothing fires at all beyond a penalty, as with an L1 that killed everything."""
    tries = sought(lambda penalty: (400 / penalty if penalty < 100 else 0.0, None), 1.0, wanted=6)
    assert abs(math.log(nearest(tries, 6).l0 / 6)) <= math.log(1 + WITHIN)
