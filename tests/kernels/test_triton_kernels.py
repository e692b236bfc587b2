"""The Triton kernels, in its interpreter where there is no GPU, equal the dense reference in value and gradient."""

import pytest
import torch
from torch import Tensor

from sae.kernels import AdamStep, FixedCode, Slot, choice, dispatch, reference
from sae.kernels.loops import Pairs
from tests.kernels.test_descend import check_nothing_moves, slots, with_narrow_moments
from tests.kernels.test_ragged_kernels import problem

pytest.importorskip("triton", reason="no package triton here")
from sae.kernels import triton_ops
from sae.kernels.triton_ops import select, whole


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


@pytest.mark.parametrize("share", [0, 1], ids=["by whole products", "pair by pair"])
@pytest.mark.parametrize(("encoder", "size", "k", "dtype", "strided"), CASES)
def test_value_and_gradient_equal_the_reference(monkeypatch, encoder, size, k, dtype, strided, share):
    monkeypatch.setattr(triton_ops.TritonLoops, "whole_share", lambda self, kind: share)
    monkeypatch.setattr(whole, "AT_ONCE", 2 * size[-1])  # two tokens
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


@pytest.mark.parametrize(("d_sae", "k"), [(40, 3), (300, 7), (90, 60), (64, 64)])
def test_a_choice_is_the_sort_s(d_sae, k):
    g = torch.Generator().manual_seed(d_sae)
    pre = torch.randn(5, d_sae, generator=g).mul(2).round()  # many are equal
    pre[1, ::7], pre[2, 3], pre[3] = -torch.inf, torch.inf, -0.0
    bias = torch.randn(d_sae, generator=g).round()
    values, indices = torch.empty(5, k), torch.empty(5, k, dtype=torch.int64)
    select.select(pre, bias, values, indices)
    select.order(values, indices)
    expected = (pre + bias).sort(dim=1, descending=True, stable=True)
    assert values.equal(expected.values[:, :k])
    assert indices.equal(expected.indices[:, :k])


@pytest.mark.parametrize("limit", [("MOST", 32), ("AT_ONCE", 4)])
def test_more_than_a_program_holds_is_left_to_torch(monkeypatch, limit):
    monkeypatch.setattr(select, *limit)
    pre, values, indices = torch.randn(3, 70), torch.empty(3, 9), torch.empty(3, 9, dtype=torch.int64)
    if limit[0] == "MOST":
        select.select(pre, torch.zeros(70), values, indices)
    else:
        values.copy_(pre[:, :9])
        indices.copy_(torch.arange(9).expand(3, 9))
        pre = values.clone()
    select.order(values, indices)
    assert values.equal(pre.topk(9).values)
    assert values.equal(pre.gather(1, indices))


@pytest.mark.parametrize("share", [0, 1], ids=["by whole products", "pair by pair"])
def test_autocast_s_rows_are_read_as_they_are(monkeypatch, share):
    monkeypatch.setattr(triton_ops.TritonLoops, "whole_share", lambda self, kind: share)
    x, rows, bias, W_dec = (leaf.requires_grad_() for leaf in problem((2, 16, 66), torch.float32, 0, False))
    found = []
    for kernel in (triton_ops, reference):
        with torch.autocast("cpu", torch.bfloat16):
            code = kernel.encode_topk(x, rows, bias, 4)
            y = kernel.sparse_decode(code, W_dec)
        assert y.dtype == torch.float32 or kernel is reference
        y.float().square().sum().backward()
        found.append([code.dense(), y.float(), *(leaf.grad for leaf in (rows, bias, W_dec))])
        for leaf in (x, rows, bias, W_dec):
            leaf.grad = None
    for a, b in zip(*found, strict=True):
        assert (a - b).norm() < 0.03 * b.norm()


@pytest.mark.parametrize("share", [0, 1], ids=["by whole products", "pair by pair"])
def test_a_latent_that_a_code_names_twice_counts_twice(monkeypatch, share):
    monkeypatch.setattr(triton_ops.TritonLoops, "whole_share", lambda self, kind: share)
    W_dec = torch.randn(5, 7)
    code = FixedCode(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[2, 2], [0, 4]]), 5)
    torch.testing.assert_close(
        triton_ops.sparse_decode(code, W_dec), torch.stack([3 * W_dec[2], 3 * W_dec[0] + 4 * W_dec[4]])
    )


def test_a_long_vector_is_divided():
    def vectors():
        g = torch.Generator().manual_seed(0)
        p, gradient, mean, square = (torch.randn(1, 2048, generator=g) for _ in range(4))
        return [Slot(p, gradient, mean, square.square(), 3, False)]

    ours, theirs, how = vectors(), vectors(), AdamStep(rate=0.05, clip=0.1)
    torch.testing.assert_close(triton_ops.descend(ours, how), reference.descend(theirs, how))
    torch.testing.assert_close(ours[0].parameter, theirs[0].parameter, rtol=1e-4, atol=1e-5)


def test_latents_that_lie_apart_are_not_those_that_lie_together(monkeypatch):
    monkeypatch.setattr(triton_ops.TritonLoops, "whole_share", lambda self, kind: 1.0)
    indices, starts = torch.tensor([0, 9, 1, 9, 2, 9, 3, 9, 4, 9, 5, 9]), torch.tensor([0, 2, 4, 6])
    for six, counts in ((indices[::2], [1] * 6 + [0] * 4), (indices[:6], [1, 1, 1] + [0] * 6 + [3])):
        sums = triton_ops.LOOPS.by_latent(Pairs(torch.ones(6), six, starts), torch.randn(3, 4), 10)
        assert sums.totals.tolist() == counts


def test_one_code_s_latents_are_sorted_once(monkeypatch):
    monkeypatch.setattr(triton_ops.TritonLoops, "whole_share", lambda self, kind: 1.0)
    sorts, sort = [], torch.sort
    monkeypatch.setattr(torch, "sort", lambda *args, **kwargs: sorts.append(args) or sort(*args, **kwargs))
    leaves = problem((2, 5, 40), torch.float32, 0, False)
    run(triton_ops, leaves, ENCODERS["topk"], 3)
    assert len(sorts) == 1
    run(triton_ops, leaves, ENCODERS["topk"], 3)
    assert len(sorts) == 2


def test_the_environment_names_them(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "triton")
    assert dispatch.spelling(torch.zeros(1)) is triton_ops
    assert dispatch.spelling(torch.zeros(1, dtype=torch.float64)).__name__ == "sae.kernels.sparse"
