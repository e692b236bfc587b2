"""The sparse kernels equal the dense reference in value and gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sae.core.errors import InputError
from sae.kernels import DenseCode, FixedCode, reference, selection, sparse
from tests.kernels.spellings import CASES, SPELLINGS, precision

sizes = st.tuples(st.integers(0, 7), st.integers(1, 39), st.integers(1, 300), st.integers(1, 300))


def problem(size: tuple[int, int, int, int], dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, d, d_sae, _ = size
    g = torch.Generator().manual_seed(seed)
    shapes = ((n, d), (d_sae, d), (d_sae,), (d_sae, d))
    x, rows, bias, W_dec = (torch.randn(s, generator=g, dtype=dtype) for s in shapes)
    return x, rows, bias, W_dec


def run(kernel, leaves: tuple[Tensor, ...], k: int, weight: Tensor, signed: bool = False):
    x, rows, bias, W_dec = (leaf.clone().requires_grad_() for leaf in leaves)
    centre = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype).requires_grad_()
    encode = kernel.largest if signed else kernel.encode_topk
    code = encode(x, rows, bias, k, centre)
    y = kernel.sparse_decode(code, W_dec)
    (y * weight).sum().backward()
    return code, y, [leaf.grad for leaf in (x, rows, bias, W_dec, centre)]


@pytest.mark.parametrize(("kernel", "dtype"), CASES)
@settings(max_examples=40, deadline=None)
@given(size=sizes, seed=st.integers(0, 99), signed=st.booleans())
def test_value_and_gradient_equal_the_reference(kernel, dtype, size, seed, signed):
    k = min(size[2], size[3])
    leaves = problem(size, dtype, seed)
    weight = torch.linspace(-1, 2, size[0] * size[1], dtype=dtype).view(size[0], size[1])
    code, y, gradients = run(kernel, leaves, k, weight, signed)
    code_ref, y_ref, gradients_ref = run(reference, leaves, k, weight, signed)
    torch.testing.assert_close(code.values, code_ref.values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(code.dense(), code_ref.dense(), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip([y, *gradients], [y_ref, *gradients_ref], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-3 if dtype == torch.float32 else 1e-6)


@pytest.mark.parametrize("kernel", SPELLINGS)
@settings(max_examples=20, deadline=None)
@given(size=sizes, seed=st.integers(0, 99))
def test_latents_chosen_in_bfloat16_have_exact_values(kernel, size, seed):
    """Choices are the best in that precision, values and gradients those of the linear map at what was chosen."""
    k = min(size[2], size[3])
    x, rows, bias, _ = (leaf.requires_grad_() for leaf in problem(size, torch.float32, seed))
    code = kernel.largest(x, rows, bias, k, selection=torch.bfloat16)
    judged = (x.bfloat16() @ rows.bfloat16().T).float() + bias
    best = judged.sort(dim=-1, descending=True).values[:, :k]
    torch.testing.assert_close(judged.gather(-1, code.indices).sort(dim=-1, descending=True).values, best)
    exact = (x @ rows.T + bias).gather(-1, code.indices)
    torch.testing.assert_close(code.values, exact, rtol=1e-4, atol=1e-4)
    assert (code.values.diff(dim=-1) <= 0).all()
    weight = torch.linspace(-1, 2, exact.numel()).view(exact.shape)
    ours, theirs = (torch.autograd.grad((v * weight).sum(), (x, rows, bias)) for v in (code.values, exact))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kernel", SPELLINGS)
@pytest.mark.parametrize("k", [1, 3, 8])
def test_ties_give_the_same_values_and_distinct_latents(kernel, k):
    pre = torch.tensor([[1.0, 2, 2, 2, 1, 0, 0, -1], [3, 3, 3, 3, 3, 3, 3, 3]])
    for ours in (kernel.topk(pre, k), kernel.encode_topk(pre, torch.eye(8), torch.zeros(8), k)):
        torch.testing.assert_close(ours.values, reference.topk(pre, k).values)
        assert all(len(set(row.tolist())) == k for row in ours.indices)


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_what_is_no_number_comes_first(kernel):
    bias = torch.zeros(200)
    bias[77] = torch.nan
    code = kernel.largest(torch.ones(2, 1), torch.ones(200, 1), bias, 3)
    assert code.values[:, 0].isnan().all()
    assert code.indices[:, 0].tolist() == [77, 77]


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_all_negative_gives_nothing_and_no_gradient(kernel):
    x = torch.ones(3, 2, requires_grad=True)
    code = kernel.encode_topk(x, -torch.ones(5, 2), torch.zeros(5), 2)
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


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_any_leading_axes(kernel):
    x, rows, bias, W_dec = problem((24, 5, 16, 0), torch.float32, 1)
    flat = kernel.encode_topk(x, rows, bias, 4)
    folded = kernel.encode_topk(x.view(2, 3, 4, 5), rows, bias, 4)
    assert folded.indices.shape == (2, 3, 4, 4)
    assert torch.equal(folded.dense().view(24, 16), flat.dense())
    assert torch.equal(kernel.sparse_decode(folded, W_dec).view(24, 5), kernel.sparse_decode(flat, W_dec))


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_strided_tensors_are_taken(kernel):
    leaves = problem((9, 20, 70, 0), torch.float32, 7)
    strided = tuple(torch.stack([leaf, leaf], -1)[..., 0] for leaf in leaves)
    weight = torch.randn(20, 9, generator=torch.Generator().manual_seed(4)).T
    for ours, theirs in zip(run(kernel, strided, 5, weight)[2], run(kernel, leaves, 5, weight)[2], strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_blocks_do_not_change_the_result(monkeypatch, kernel):
    x, rows, bias, _ = problem((23, 5, 16, 0), precision(kernel), 2)
    whole = kernel.encode_topk(x, rows, bias, 4)
    monkeypatch.setattr(selection, "BLOCK_ELEMENTS", 16 * 5)
    monkeypatch.setattr(selection, "BLOCK_TOKENS", 1)
    blocks = kernel.encode_topk(x, rows, bias, 4)
    assert torch.equal(whole.indices, blocks.indices)
    torch.testing.assert_close(whole.values, blocks.values)


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_equal_calls_give_equal_bits_with_any_number_of_threads(kernel):
    leaves = problem((300, 16, 64, 0), torch.float32, 3)
    weight = torch.randn(300, 16, generator=torch.Generator().manual_seed(4))
    before, found = torch.get_num_threads(), []
    for n_threads in (1, 1, 2) if kernel is not sparse else (1, 1):
        torch.set_num_threads(n_threads)
        found.append(run(kernel, leaves, 8, weight)[2])
    torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_inference_mode_leaves_training_possible(kernel):
    x, rows, bias, _ = problem((64, 16, 128, 0), precision(kernel), 3)
    with torch.inference_mode():
        kernel.encode_topk(x, rows, bias, 4)
    rows.requires_grad_()
    kernel.encode_topk(x, rows, bias, 4).values.sum().backward()
    assert rows.grad is not None


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_dense_code_decodes_like_the_fixed_one(kernel):
    x, rows, bias, W_dec = problem((9, 5, 16, 0), torch.float32, 8)
    code = kernel.encode_topk(x, rows, bias, 4)
    dense = DenseCode(code.dense())
    torch.testing.assert_close(kernel.sparse_decode(dense, W_dec), kernel.sparse_decode(code, W_dec))


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_latents_beyond_the_decoder_are_refused(kernel):
    with pytest.raises(InputError, match="latents 9 to 9; the decoder has rows 0 to 4"):
        kernel.sparse_decode(FixedCode(torch.ones(1, 1), torch.tensor([[9]]), 10), torch.ones(5, 2))
