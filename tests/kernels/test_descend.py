"""One pass of the optimiser equals the dense reference, and the trainer's own Adam."""

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.kernels import AdamStep, Slot, reference
from tests.kernels.spellings import CASES, SPELLINGS


def slots(dtype: torch.dtype, n: int, d: int, seed: int, n_steps: int = 1) -> list[Slot]:
    """A matrix of unit rows, another one, and a vector as rows of one."""
    g = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    rows = torch.nn.functional.normalize(drawn(n, d))
    shapes = ((n, d), (n, d), (n, 1))
    parameters = (rows, *(drawn(*s) for s in shapes[1:]))
    return [
        Slot(p, drawn(*s), 0.1 * drawn(*s), 0.1 * drawn(*s).square(), n_steps, unit=i == 0)
        for i, (p, s) in enumerate(zip(parameters, shapes, strict=True))
    ]


@pytest.mark.parametrize(("kernel", "dtype"), CASES)
@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 9),
    d=st.integers(1, 70),
    seed=st.integers(0, 99),
    clip=st.sampled_from([0.1, 1e9]),
    done=st.integers(0, 3),
)
def test_a_step_equals_the_reference(kernel, dtype, n, d, seed, clip, done):
    ours, theirs = slots(dtype, n, d, seed, done + 1), slots(dtype, n, d, seed, done + 1)
    how = AdamStep(rate=0.05, clip=clip)
    torch.testing.assert_close(kernel.descend(ours, how), reference.descend(theirs, how), rtol=1e-4, atol=1e-5)
    for a, b in zip(ours, theirs, strict=True):
        for name in ("parameter", "mean", "square"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [*SPELLINGS, pytest.param(reference, id="reference")])
def test_three_steps_equal_those_of_torch(kernel):
    begun = slots(torch.float32, 7, 20, 0)
    ours = [Slot(s.parameter.clone(), s.gradient, s.mean * 0, s.square * 0, 0, s.unit) for s in begun]
    parameters = [torch.nn.Parameter(s.parameter.clone()) for s in begun]
    adam = torch.optim.Adam(parameters, lr=0.05)
    for step in range(3):
        gradients = [slot.gradient for slot in slots(torch.float32, 7, 20, step)]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        rows = parameters[0]
        assert rows.grad is not None
        rows.grad -= (rows.grad * rows.detach()).sum(1, keepdim=True) * rows.detach()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        rows.data /= rows.data.norm(dim=1, keepdim=True)
        ours = [slot._replace(gradient=g.clone(), n_steps=step + 1) for slot, g in zip(ours, gradients, strict=True)]
        torch.testing.assert_close(kernel.descend(ours, AdamStep(0.05, 1.0)), norm)
    for slot, parameter in zip(ours, parameters, strict=True):
        torch.testing.assert_close(slot.parameter, parameter.detach())


def check_nothing_moves(kernel: ModuleType, bad: float) -> None:
    made = slots(torch.float32, 5, 20, 0)
    made[1].gradient[2, 3] = bad
    before = [tensor.clone() for slot in made for tensor in (slot.parameter, slot.mean, slot.square)]
    assert not kernel.descend(made, AdamStep(0.05, 1.0)).isfinite()
    after = [tensor for slot in made for tensor in (slot.parameter, slot.mean, slot.square)]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("kernel", [*SPELLINGS, pytest.param(reference, id="reference")])
def test_nothing_moves_along_a_gradient_that_is_not_finite(kernel, bad):
    check_nothing_moves(kernel, bad)


def with_narrow_moments(made: list[Slot]) -> list[Slot]:
    return [slot._replace(mean=slot.mean.bfloat16(), square=slot.square.bfloat16()) for slot in made]


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_moments_in_bfloat16_are_rounded_as_the_reference_rounds_them(kernel):
    ours, theirs = (with_narrow_moments(slots(torch.float32, 40, 70, 0, 5)) for _ in range(2))
    torch.testing.assert_close(
        kernel.descend(ours, AdamStep(0.05, 1.0)), reference.descend(theirs, AdamStep(0.05, 1.0))
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.parameter, b.parameter, rtol=1e-4, atol=1e-5)
        for moment, expected in ((a.mean, b.mean), (a.square, b.square)):
            assert moment.dtype == torch.bfloat16
            torch.testing.assert_close(moment, expected, rtol=1 / 128, atol=1e-6)  # where sums fell a bit apart
            assert (moment == expected).double().mean() > 0.99


@pytest.mark.parametrize("kernel", [*SPELLINGS, pytest.param(reference, id="reference")])
def test_what_bfloat16_cannot_hold_is_not_lost_on_average(kernel):
    """A mean square of 1 after 1,500 steps: rounded to the nearest it would stand still far below."""
    n_steps, how = 1500, AdamStep(rate=0.0, clip=1e9)
    moments = [torch.zeros(4, 64, dtype=torch.bfloat16) for _ in range(2)]
    slot = Slot(torch.zeros(4, 64), torch.zeros(4, 64), moments[0], moments[1], 0)
    for step in range(1, n_steps + 1):
        kernel.descend([slot._replace(gradient=torch.ones(4, 64), n_steps=step)], how)
    assert float(slot.square.float().mean()) == pytest.approx(1 - how.beta2**n_steps, rel=0.01)
    assert float(slot.mean.float().mean()) == pytest.approx(1, rel=0.01)
