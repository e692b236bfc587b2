"""Sums over rows, in C++ and in torch: in float64, of the numbers as they are stored, by column and by octave."""

import pytest
import torch

from sae.core.random import generator
from sae.kernels.choice import VARIABLE
from sae.kernels.row_sums import RowSums
from tests.kernels.spellings import COMPILED

N_OCTAVES, LOWEST = 64, -32
DTYPES = {dtype: str(dtype).removeprefix("torch.") for dtype in (torch.float32, torch.bfloat16, torch.float16)}


@pytest.fixture(params=[pytest.param("cpu", marks=COMPILED), "sparse"])
def spelt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, request.param)


def empty(d: int) -> RowSums:
    total, squares, octaves = (torch.zeros(*shape, d, dtype=torch.float64) for shape in ((), (), (N_OCTAVES,)))
    return RowSums(total, squares, octaves, LOWEST)


@pytest.mark.usefixtures("spelt")
@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
@pytest.mark.parametrize("d", [1, 7, 48])
def test_they_are_sums_in_float64(dtype: torch.dtype, d: int) -> None:
    size = torch.logspace(-9, 4, 301)[:, None]  # from subnormal in half precision to its largest
    x = (torch.randn(301, d, generator=generator(d)) * size + 1).clamp(-60_000, 60_000).to(dtype)
    x[5] = 0
    sums, wide = empty(d), x.double()
    squares = torch.cat([sums.add(x[:100]), sums.add(x[100:])])
    torch.testing.assert_close(squares, wide.square().sum(1), rtol=1e-13, atol=0)
    torch.testing.assert_close(sums.total, wide.sum(0), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(sums.squares, wide.square().sum(0), rtol=1e-13, atol=0)
    octave = (wide.norm(dim=1).log2().floor() - LOWEST).clamp(0, N_OCTAVES - 1).long()
    torch.testing.assert_close(sums.octaves, torch.zeros_like(sums.octaves).index_add_(0, octave, wide))


@pytest.mark.usefixtures("spelt")
@pytest.mark.parametrize(
    ("norm", "octave"), [(0.0, 0), (1e-30, 0), (2.0**-32, 0), (1.0, 32), (1.5, 32), (2.0, 33), (3e38, 63)]
)
def test_an_octave_begins_at_a_power_of_two(norm: float, octave: int) -> None:
    sums = empty(2)
    sums.add(torch.tensor([[norm, 0.0]]))
    assert float(sums.octaves[octave, 0]) == pytest.approx(norm, rel=1e-7)
    assert float(sums.octaves.sum()) == pytest.approx(norm, rel=1e-7)


@pytest.mark.usefixtures("spelt")
def test_rows_that_do_not_lie_together_are_summed_too() -> None:
    x = torch.randn(20, 12, generator=generator(3))
    sums = empty(6)
    assert torch.equal(sums.add(x[:, ::2]), empty(6).add(x[:, ::2].contiguous()))
    torch.testing.assert_close(sums.total, x[:, ::2].double().sum(0))
