"""Sparse data give their directions back, whatever the preset.

24 directions in 16 dimensions, 32 latents, 100 steps of 256 tokens. Measured over seeds 0, 1 and 2, the mean over true
directions of the cosine with the nearest decoder row was at least .94 with topk, .90 batchtopk, .78 matryoshka (whose
first latents stand for several directions), .95 relu, .82 jumprelu, .80 with tanh, .82 gated, .98 matching pursuit, .80
transcoder and .79 crosscoder. It was at most .54 before training, .63 for transcoders, whose decoders start from the
covariance of their sites; a skip explains a part of the target by itself, and leaves less to the latents.
"""

import pytest

from sae.synthetic import mean_max_cosine

AT_LEAST = {
    "topk": 0.9,
    "batchtopk": 0.86,
    "matryoshka": 0.74,
    "relu": 0.92,
    "jumprelu": 0.77,
    "jumprelu-tanh": 0.76,
    "gated": 0.79,
    "matching-pursuit": 0.93,
    "transcoder": 0.75,
    "crosscoder": 0.75,
}


@pytest.mark.parametrize("learner", AT_LEAST, indirect=True)
def test_directions_are_found(learner):
    keys = {"batch": 256, "tokens": 256 * 100, "learning_rate": 2.5e-2}
    start, end = learner.start(**keys), learner.trained(**keys)
    before, after = (mean_max_cosine(learner.true_rows(s), s.dictionary.W_dec.detach()) for s in (start, end))
    assert after >= AT_LEAST[learner.name]
    assert after >= before + 0.1


def test_controls_do_not_know_them(control):
    state = control.trained()
    assert mean_max_cosine(control.true_rows(state), state.dictionary.W_dec.detach()) < 0.65
