"""Quality is 1 for perfect shuffling, far from it for poor shuffling, and high enough with the default buffer."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from sae.activations.order import RowOrder
from sae.activations.quality import autocorrelation, expected_distinct, mean_autocorrelation, shuffle_quality
from sae.activations.shuffle import BUFFER_ROWS, SLICE_ROWS


@dataclass
class Ordered:
    """Batches of an order over documents, without activations; a row's value is its document's."""

    all_documents: np.ndarray
    n_per_batch: int
    buffer_rows: int = BUFFER_ROWS
    slice_rows: int = SLICE_ROWS
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.n_rows = len(self.all_documents)
        self.order = RowOrder(self.n_rows, 0, self.buffer_rows, self.slice_rows)
        self.value = torch.randn(int(self.all_documents.max()) + 1, 8, generator=torch.Generator().manual_seed(0))

    def row_numbers(self, step: int) -> np.ndarray:
        return self.order.rows(step * self.n_per_batch, (step + 1) * self.n_per_batch)

    def batch(self, step: int) -> torch.Tensor:
        return self.value[torch.from_numpy(self.all_documents[self.row_numbers(step)])]


def documents(n_rows: int, shortest: int, longest: int) -> np.ndarray:
    lengths = np.random.default_rng(0).integers(shortest, longest + 1, n_rows // shortest + 1)
    return np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[:n_rows]


@pytest.mark.parametrize("lengths", [(20, 46), (500, 1000)], ids=["microworld", "long"])
@pytest.mark.parametrize("batch", [1024, 4096])
def test_the_default_buffer_mixes_a_million_tokens(lengths: tuple[int, int], batch: int) -> None:
    quality = shuffle_quality(Ordered(documents(1_000_000, *lengths), batch), 8)
    assert 0.95 <= quality <= 1.01


def test_quality_tells_mixed_from_unmixed() -> None:
    known = documents(6000, 20, 20)
    assert shuffle_quality(Ordered(known, 64, 10_000, 4), 64) == pytest.approx(1, abs=0.03)
    assert shuffle_quality(Ordered(known, 64, 128, 64), 64) < 0.5


def test_expected_distinct_is_what_drawing_gives() -> None:
    random = np.random.default_rng(0)
    known = np.repeat(np.arange(50), random.integers(1, 30, 50))
    drawn = [len(np.unique(random.choice(known, 40, replace=False))) for _ in range(2000)]
    assert expected_distinct(known, 40) == pytest.approx(np.mean(drawn), abs=0.1)
    assert expected_distinct(known, len(known)) == pytest.approx(50)


@pytest.mark.parametrize("scales", [torch.ones(8), torch.logspace(0, -2, 8)])
def test_the_spread_is_that_of_independent_means(scales: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    found = [autocorrelation(torch.randn(64, 8, generator=generator).double() * scales) for _ in range(500)]
    values = np.array([one.value for one in found])
    assert values.std() == pytest.approx(np.mean([one.spread for one in found]), rel=0.25)
    assert values.mean() == pytest.approx(-1 / 64, abs=0.01)


def test_autocorrelation_tells_mixed_from_unmixed() -> None:
    known = documents(6400, 100, 100)
    mixed = mean_autocorrelation(Ordered(known, 50, 10_000, 4), 100)
    poor = mean_autocorrelation(Ordered(known, 50, 200, 100), 100)
    assert abs(mixed.value) < 4 * mixed.spread
    assert poor.value > 10 * poor.spread
    assert autocorrelation(torch.ones(5, 3).double()).value == 0
