"""Intervals cover, tests keep their level, and both follow from the seed."""

import numpy as np
import pytest

from sae.core.errors import InputError
from sae.core.random import numpy_generator
from sae.core.uncertainty import bootstrap_mean, bootstrap_ratio, false_discovery, rank_p, sign_flip_p


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    random = numpy_generator(0, "coverage")
    covered = 0
    for trial in range(200):
        interval = bootstrap_mean(random.normal(3.0, 1.0, 60), seed=trial, n_resamples=400)
        covered += interval.low <= 3.0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_documents_are_the_unit() -> None:
    """Ten copies of every token within its document do not narrow the interval."""
    values = numpy_generator(1).normal(size=40)
    once = bootstrap_ratio(values, np.ones(40), seed=0)
    tenfold = bootstrap_ratio(10 * values, np.full(40, 10.0), seed=0)
    assert tenfold.high - tenfold.low == pytest.approx(once.high - once.low)


def test_a_permutation_test_keeps_its_level_and_sees_an_effect() -> None:
    random = numpy_generator(2)
    null = [sign_flip_p(random.normal(size=30), seed=i, n_flips=200) for i in range(200)]
    assert np.mean(np.array(null) <= 0.05) <= 0.1
    assert sign_flip_p(random.normal(1.0, 1.0, 30), seed=0) < 0.01


def test_rank_p_counts_controls_that_do_as_much() -> None:
    assert rank_p(2.0, np.array([0.1, -3.0, 1.0])) == pytest.approx(2 / 4)


def test_false_discovery_is_benjamini_hochberg() -> None:
    assert false_discovery([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.04, 0.04])
    assert false_discovery([]) == []


def test_one_document_has_no_interval() -> None:
    with pytest.raises(InputError, match="at least two documents, got 1"):
        bootstrap_mean(np.array([1.0]), seed=0)
