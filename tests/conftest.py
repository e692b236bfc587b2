"""What all tests share: hypothesis without a clock (machines are noisy), and the data beside the checkout."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first; one process has all tests of a file, and all that share the store."""
    items.sort(key=lambda item: "pipelines" not in item.path.parts)
    for item in items:
        shares = "store" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("store" if shares else str(item.path)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of models and data beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (a small real model and real text), which is not beside this checkout")
    return folder
