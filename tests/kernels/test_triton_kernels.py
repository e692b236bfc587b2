"""The Triton kernels, in its interpreter where there is no GPU, equal the dense reference in value and gradient."""

import pytest
import torch
from torch import Tensor

from sae.core.errors import InputError
from sae.kernels import AdamStep, choice, dispatch, reference
from tests.kernels.test_descend import check_nothing_moves, slots, with_narrow_moments
from tests.kernels.test_ragged_kernels import problem

pytest.importorskip("triton", reason="no package triton here")
from sae.kernels import triton_ops
from sae.kernels.triton_ops import dots, fused, select


def run(kernel, leaves: tuple[Tensor, ...], encode, k: int):
    x, rows, bias, W_dec = (leaf.detach().clone().requires_grad_() for leaf in leaves)
    centre = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype).requires_grad_()
    code = encode(kernel, x, rows, bias, k, centre)
    y = kernel.sparse_decode(code, W_dec)
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    return code, [y, *(leaf.grad for leaf in (x, rows, bias, W_dec, centre))]


ENCODERS = {
    "topk": lambda kernel, x, rows, bias, k, c: kernel.encode_topk(x, rows, bias, k, c),
    "signed": lambda kernel, x, rows, bias, k, c: kernel.largest(x, rows, bias, k, c),
    "coarse": lambda kernel, x, rows, bias, k, c: kernel.largest(x, rows, bias, k, c, torch.bfloat16),
    "batchtopk": lambda kernel, x, rows, bias, k, c: kernel.encode_batchtopk(x, rows, bias, k, c),
    "threshold": lambda kernel, x, rows, bias, k, c: kernel.encode_threshold(x, rows, bias, 0.3, c),
}
CASES = [
    pytest.param("topk", (3, 7, 37), 2, torch.float32, False, id="odd sizes"),
    pytest.param("topk", (2, 16, 66), 1, torch.float32, True, id="k 1, strided, two blocks"),
    pytest.param("topk", (0, 5, 9), 3, torch.float32, False, id="empty batch"),
    pytest.param("topk", (2, 8, 30), 30, torch.bfloat16, False, id="all latents, bfloat16"),
    pytest.param("signed", (2, 5, 70), 2, torch.float32, False, id="signed"),
    pytest.param("coarse", (2, 5, 70), 1, torch.float32, False, id="chosen in bfloat16"),
    pytest.param("batchtopk", (3, 6, 40), 2, torch.float32, False, id="batchtopk"),
    pytest.param("threshold", (3, 6, 20), 1, torch.float32, False, id="threshold"),
]


@pytest.mark.parametrize(("encoder", "size", "k", "dtype", "strided"), CASES)
def test_value_and_gradient_equal_the_reference(encoder, size, k, dtype, strided):
    leaves = problem(size, dtype, 1, strided)
    code, ours = run(triton_ops, leaves, ENCODERS[encoder], k)
    expected, theirs = run(reference, leaves, ENCODERS[encoder], k)
    rtol, atol = (1e-4, 1e-4) if dtype == torch.float32 else (2e-2, 6e-2)
    torch.testing.assert_close(code.dense(), expected.dense(), rtol=rtol, atol=atol)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("d", "kept"), [(1, "float32"), (5, "float32"), (70, "float32"), (70, "bfloat16")])
def test_a_step_of_adam_equals_the_reference(monkeypatch, d, kept):
    monkeypatch.setattr("sae.kernels.triton_ops.adam_rows.WIDEST", 32)
    ours, theirs = (slots(torch.float32, 5, d, 3, n_steps=2) for _ in range(2))
    if kept == "bfloat16":
        ours, theirs = with_narrow_moments(ours), with_narrow_moments(theirs)
    how = AdamStep(rate=0.05, clip=0.1)
    torch.testing.assert_close(triton_ops.descend(ours, how), reference.descend(theirs, how), rtol=1e-4, atol=1e-5)
    for a, b in zip(ours, theirs, strict=True):
        for name in ("parameter", "mean", "square"):
            rtol = 1 / 128 if getattr(a, name).dtype == torch.bfloat16 else 1e-4
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nothing_moves_along_a_gradient_that_is_not_finite(bad):
    check_nothing_moves(triton_ops, bad)


@pytest.mark.parametrize("k", [1, 2])
def test_ties_and_what_is_no_number(monkeypatch, k):
    monkeypatch.setattr(select, "width", lambda d_sae, k: 4)
    pre = torch.tensor([[1.0, 2, 2, 2, 1, 0, 0, -1, 2, -9], [3] * 10, [-1, -2, -3, torch.nan, -1, 0, 0, 0, 0, 0]])
    values, indices = torch.empty(3, k), torch.empty(3, k, dtype=torch.int64)
    select.select(pre.clone(), torch.zeros(10), values, indices)
    torch.testing.assert_close(values, reference.topk(pre, k).values.where(values > 0, values), equal_nan=True)
    torch.testing.assert_close(values, pre.gather(1, indices), equal_nan=True)
    assert all(len(set(row.tolist())) == k for row in indices)
    assert values[2, 0].isnan()


@pytest.mark.parametrize(
    ("dtype", "k", "crowded"),
    [
        pytest.param(torch.float32, 3, False, id="nothing is missed"),
        pytest.param(torch.float32, 5, True, id="a tile keeps too little"),
        pytest.param(torch.bfloat16, 3, True, id="bfloat16"),
    ],
)
def test_product_and_choice_as_one(monkeypatch, dtype, k, crowded):
    for name, size in {"TILE": 16, "KEPT": 2, "TOKENS": 16, "COLUMNS": 16}.items():
        monkeypatch.setattr(fused, name, size)
    x, rows, bias, _ = problem((1, 18, 100), dtype, 1, False)
    x, n_tiles = x.reshape(-1, x.shape[-1]), -(-len(rows) // 16)
    bias = torch.where(torch.arange(100) % n_tiles == 2, bias + 9 * crowded, bias)
    values, indices = torch.empty(len(x), k), torch.empty(len(x), k, dtype=torch.int64)
    fused.largest(x, rows, bias, values, indices)
    pre = x.float() @ rows.float().T + bias
    torch.testing.assert_close(values, pre.topk(k).values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(values, pre.gather(1, indices), rtol=1e-4, atol=1e-4)
    assert all(len(set(row.tolist())) == k for row in indices)


@pytest.mark.parametrize("crowded", [False, True])
def test_a_fused_choice_keeps_what_is_no_number(monkeypatch, crowded):
    for name, size in {"TILE": 16, "KEPT": 2, "TOKENS": 16, "COLUMNS": 16}.items():
        monkeypatch.setattr(fused, name, size)
    rows, values, indices = torch.randn(64, 4), torch.empty(1, 4), torch.empty(1, 4, dtype=torch.int64)
    bias = 20.0 * crowded * (torch.arange(64) % 4 == 1)
    bias[38] = torch.nan
    fused.largest(torch.ones(1, 4), rows, bias, values, indices)
    assert values[0, 0].isnan()
    assert indices[0, 0] == 38
    best = (rows.sum(1) + bias).nan_to_num(-torch.inf).topk(3)
    torch.testing.assert_close(values[0, 1:], best.values)
    assert indices[0, 1:].equal(best.indices)


def test_a_fused_choice_of_latents_at_minus_infinity_names_each_once(monkeypatch):
    for name, size in {"TILE": 16, "KEPT": 4, "TOKENS": 16, "COLUMNS": 16}.items():
        monkeypatch.setattr(fused, name, size)
    bias = torch.full((64,), -torch.inf)
    bias[:2] = 0.0
    values, indices = torch.empty(2, 5), torch.empty(2, 5, dtype=torch.int64)
    fused.largest(torch.ones(2, 4), torch.ones(64, 4), bias, values, indices)
    assert values.tolist() == [[4.0, 4.0, *[-torch.inf] * 3]] * 2
    assert all(len(set(row.tolist())) == 5 for row in indices)


def test_rows_that_are_too_wide_are_refused():
    wide = torch.ones(1, dots.WIDEST + 1)
    with pytest.raises(InputError, match=f"kernel dots takes rows of at most {dots.WIDEST}"):
        dots.dots(wide, wide, torch.zeros(1, dtype=torch.int64), torch.tensor([0, 1]))


def test_the_environment_names_them(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "triton")
    assert dispatch.spelling(torch.zeros(1)) is triton_ops
    assert dispatch.spelling(torch.zeros(1, dtype=torch.float64)).__name__ == "sae.kernels.sparse"
