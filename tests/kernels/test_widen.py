"""Rows into a batch, in C++ and in torch: as they are stored, or the numbers that they stand for in float32."""

import pytest
import torch

from sae.core.random import generator
from sae.kernels.choice import VARIABLE
from sae.kernels.widen import widen
from tests.kernels.spellings import COMPILED

KINDS = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(params=[pytest.param("cpu", marks=COMPILED), "sparse"])
def spelt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, request.param)


@pytest.mark.usefixtures("spelt")
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("to", ["stored", "float32"])
@pytest.mark.parametrize("d", [1, 13, 64])
@pytest.mark.parametrize("beside", [0, 3])
def test_they_are_the_rows(dtype: torch.dtype, to: str, d: int, beside: int) -> None:
    rows = torch.randn(50, d, generator=generator(d)).to(dtype)
    for start, stop in ((3, 3), (7, 8), (0, 50)):
        out = torch.full((stop - start, d + beside), 7.0, dtype=dtype if to == "stored" else torch.float32)
        widen(rows[start:stop], out[:, :d])
        assert torch.equal(out[:, :d], rows[start:stop].to(out.dtype))
        assert (out[:, d:] == 7).all(), "what lies beside is left alone"


@pytest.mark.usefixtures("spelt")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_sixteen_bits_is_widened_as_torch_does(dtype: torch.dtype) -> None:
    rows = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).view(64, 1024)
    out = torch.empty(64, 1024)
    widen(rows, out)
    assert torch.equal(out.isnan(), rows.isnan())
    assert torch.equal(out.nan_to_num().view(torch.int32), rows.float().nan_to_num().view(torch.int32))


@pytest.mark.usefixtures("spelt")
def test_int8_rows_are_times_their_scale() -> None:
    numbers = torch.randint(-127, 128, (20, 9), dtype=torch.int8, generator=generator(0))
    scale = torch.rand(20, 1, generator=generator(1))
    out = torch.empty(20, 9)
    widen(torch.cat([numbers, scale.view(torch.int8)], dim=1), out)
    assert torch.equal(out, numbers.float() * scale)
