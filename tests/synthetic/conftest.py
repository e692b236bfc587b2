import pytest

from sae.synthetic import Truth, TruthConfig

SMALL = TruthConfig(
    d=24, n_features=60, highest=0.3, lowest=0.01, n_trees=2, depth=2, branching=3, correlation_rank=3,
    correlation_scale=0.3, noise=0.05, offset=2.0,
)  # fmt: skip


@pytest.fixture(scope="session")
def small() -> Truth:
    """Two trees of 13 features, 34 that stand alone."""
    return Truth(SMALL)
