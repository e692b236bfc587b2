"""Captures on the host: the same values, and from a GPU in pinned memory."""

import pytest
import torch
from torch import Tensor

from sae.core.errors import InputError
from sae.lm import reading, sites_of
from sae.lm.tiny import tiny

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stop", [True, False])
def test_host_copies_are_the_captures(ids: Tensor, device: str, stop: bool) -> None:
    model = tiny("llama").to(device)
    with reading(model, sites_of(model)) as expected:
        model(input_ids=ids.to(device))
    with reading(model, sites_of(model), stop=stop, to_host=True) as captured:
        model(input_ids=ids.to(device))
    assert set(captured) == set(expected)
    for site, x in captured.items():
        assert torch.equal(x, expected[site].cpu())
        assert x.is_pinned() == (device == "cuda")


def test_gradients_of_host_copies_are_refused(ids: Tensor) -> None:
    with pytest.raises(InputError, match="gradients and to_host"), reading(tiny("gpt2"), ["embed"], True, True, True):
        pass
