"""Texts of unequal length in one batch give what each gives alone."""

import numpy as np
import pytest
import torch
from torch import nn

from sae.core.errors import InputError
from sae.lm import pad, reading
from sae.lm.tiny import N_VOCAB

SITES = ["blocks.0.attn_out", "blocks.2.resid_post"]


def test_padded_texts_equal_texts_alone(model: nn.Module) -> None:
    random = np.random.default_rng(0)
    sequences = [random.integers(3, N_VOCAB, length) for length in (7, 2, 11)]
    with reading(model, SITES) as together:
        model(**pad(sequences, pad_id=5).inputs())
    for row, ids in enumerate(sequences):
        with reading(model, SITES) as alone:
            model(input_ids=torch.from_numpy(ids)[None])
        for site in SITES:
            torch.testing.assert_close(together[site][row, : len(ids)], alone[site][0], atol=2e-5, rtol=1e-5)


def test_empty_batch_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        pad([])
