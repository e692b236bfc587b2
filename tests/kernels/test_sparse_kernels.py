"""The sparse kernels equal the dense reference in value and gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sae.kernels import DenseCode, FixedCode, reference, sparse

sizes = st.tuples(st.integers(0, 7), st.integers(1, 9), st.integers(1, 37), st.integers(1, 37))
dtypes = st.sampled_from([torch.float32, torch.float64])


def problem(size: tuple[int, int, int, int], dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, d, d_sae, _ = size
    g = torch.Generator().manual_seed(seed)
    shapes = ((n, d), (d_sae, d), (d_sae,), (d_sae, d))
    x, rows, bias, W_dec = (torch.randn(s, generator=g, dtype=dtype) for s in shapes)
    return x, rows, bias, W_dec


def run(kernel, leaves: tuple[Tensor, ...], k: int, weight: Tensor, signed: bool = False):
    x, rows, bias, W_dec = (leaf.clone().requires_grad_() for leaf in leaves)
    encode = kernel.largest if signed else kernel.encode_topk
    code = encode(x, rows, bias, k)
    y = kernel.sparse_decode(code, W_dec)
    (y * weight).sum().backward()
    return code, y, [leaf.grad for leaf in (x, rows, bias, W_dec)]


@settings(max_examples=60, deadline=None)
@given(size=sizes, dtype=dtypes, seed=st.integers(0, 99), signed=st.booleans())
def test_value_and_gradient_equal_the_reference(size, dtype, seed, signed):
    k = min(size[2], size[3])
    leaves = problem(size, dtype, seed)
    weight = torch.linspace(-1, 2, size[0] * size[1], dtype=dtype).view(size[0], size[1])
    code, y, gradients = run(sparse, leaves, k, weight, signed)
    code_ref, y_ref, gradients_ref = run(reference, leaves, k, weight, signed)
    torch.testing.assert_close(code.values, code_ref.values)
    torch.testing.assert_close(code.dense(), code_ref.dense())
    torch.testing.assert_close(y, y_ref)
    for ours, theirs in zip(gradients, gradients_ref, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_ties_give_the_same_values_and_distinct_latents(k):
    pre = torch.tensor([[1.0, 2, 2, 2, 1, 0, 0, -1], [3, 3, 3, 3, 3, 3, 3, 3]])
    ours, theirs = sparse.topk(pre, k), reference.topk(pre, k)
    torch.testing.assert_close(ours.values, theirs.values)
    assert all(len(set(row.tolist())) == k for row in ours.indices)


def test_all_negative_gives_nothing_and_no_gradient():
    x = torch.ones(3, 2, requires_grad=True)
    code = sparse.encode_topk(x, -torch.ones(5, 2), torch.zeros(5), 2)
    code.values.sum().backward()
    assert code.l0().tolist() == [0, 0, 0]
    assert x.grad is not None
    assert not x.grad.any()


def test_gradients_against_finite_differences():
    leaves = problem((4, 3, 7, 0), torch.float64, 5)
    leaves = tuple(leaf.requires_grad_() for leaf in leaves)

    def forward(x, rows, bias, W_dec):
        return sparse.sparse_decode(sparse.encode_topk(x, rows, bias, 3), W_dec)

    assert torch.autograd.gradcheck(forward, leaves)


def test_any_leading_axes():
    x, rows, bias, W_dec = problem((24, 5, 16, 0), torch.float32, 1)
    flat = sparse.encode_topk(x, rows, bias, 4)
    folded = sparse.encode_topk(x.view(2, 3, 4, 5), rows, bias, 4)
    assert folded.indices.shape == (2, 3, 4, 4)
    assert torch.equal(folded.dense().view(24, 16), flat.dense())
    assert torch.equal(sparse.sparse_decode(folded, W_dec).view(24, 5), sparse.sparse_decode(flat, W_dec))


def test_blocks_do_not_change_the_result(monkeypatch):
    x, rows, bias, _ = problem((23, 5, 16, 0), torch.float64, 2)
    whole = sparse.encode_topk(x, rows, bias, 4)
    monkeypatch.setattr(sparse, "_BLOCK_ELEMENTS", 16 * 5)
    blocks = sparse.encode_topk(x, rows, bias, 4)
    assert torch.equal(whole.indices, blocks.indices)
    torch.testing.assert_close(whole.values, blocks.values)


def test_equal_calls_give_equal_bits():
    leaves = problem((300, 16, 64, 0), torch.float32, 3)
    weight = torch.randn(300, 16, generator=torch.Generator().manual_seed(4))
    first, second = (run(sparse, leaves, 8, weight)[2] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_inference_mode_leaves_training_possible():
    x, rows, bias, _ = problem((64, 16, 128, 0), torch.float64, 3)
    with torch.inference_mode():
        sparse.encode_topk(x, rows, bias, 4)
    rows.requires_grad_()
    sparse.encode_topk(x, rows, bias, 4).values.sum().backward()
    assert rows.grad is not None


def test_dense_code_decodes_like_the_fixed_one():
    x, rows, bias, W_dec = problem((9, 5, 16, 0), torch.float32, 8)
    code = sparse.encode_topk(x, rows, bias, 4)
    dense = DenseCode(code.dense())
    torch.testing.assert_close(sparse.sparse_decode(dense, W_dec), sparse.sparse_decode(code, W_dec))
    assert torch.equal(dense.l0(), code.l0())
    assert torch.equal(dense.fired(), code.fired())
    assert torch.equal(code.fired(), (code.dense() > 0).any(0))
    assert isinstance(code.detach(), FixedCode)
