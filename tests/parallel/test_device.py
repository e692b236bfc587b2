"""A name of a device is a device that is there, or a clear error."""

import pytest
import torch

from sae.core.errors import InputError
from sae.parallel import device_of


def test_the_processor_is_always_there() -> None:
    assert device_of("cpu") == torch.device("cpu")
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_gpu_is_that_of_the_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "77")
    with pytest.raises(InputError, match="cuda:77"):  # no machine has so many
        device_of("cuda")


@pytest.mark.parametrize("name", ["nonsense", "meta", "cuda:99", ""])
def test_what_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="device"):
        device_of(name)
