"""What all tests share: hypothesis without a clock (machines are noisy), and the data beside the checkout."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import tests.checking  # noqa: F401 (named by `addopts`; before the first module of `sae`)

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("steady")

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported, which some other test may do first


def pytest_itemcollected(item: pytest.Item) -> None:
    """One process has all tests of a file, and all that share the store.

    xdist reads the groups when collection ends, before any hook of a conftest; so they are set while it goes on.
    """
    shares = "store" in getattr(item, "fixturenames", ())
    item.add_marker(pytest.mark.xdist_group("store" if shares else str(item.path)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first."""
    items.sort(key=lambda item: "pipelines" not in item.path.parts)


@pytest.fixture(autouse=True)
def latents_are_chosen_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any machine: `selection: auto` would take bfloat16 where there are instructions for it."""
    monkeypatch.setattr("sae.kernels.choice.multiplies_bfloat16", lambda device: False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of models and data beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (a small real model and real text), which is not beside this checkout")
    return folder
