"""Kernels with any number of latents a token equal the dense reference in value and gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sae.kernels import RaggedCode, reference, selection, sparse
from tests.kernels.spellings import CASES, SPELLINGS, precision

sizes = st.tuples(st.integers(0, 7), st.integers(1, 39), st.integers(1, 150))
KINDS = ["batchtopk", "scalar threshold", "thresholds", "signed floors", "sparsify"]
TOLERANCE = {torch.bfloat16: (2e-2, 6e-2), torch.float32: (1e-4, 2e-3), torch.float64: (1e-7, 1e-9)}


def problem(size: tuple[int, int, int], dtype: torch.dtype, seed: int, strided: bool) -> tuple[Tensor, ...]:
    n, d, d_sae = size
    g = torch.Generator().manual_seed(seed)
    leaves = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((n, d), (d_sae, d), (d_sae,), (d_sae, d)))
    leaves = tuple(leaf.to(dtype) for leaf in leaves)
    return tuple(torch.stack([leaf, leaf], -1)[..., 0] for leaf in leaves) if strided else leaves


def encode(kernel, kind: str, x: Tensor, rows: Tensor, bias: Tensor, k: int, centre=None) -> RaggedCode:
    centre = torch.zeros_like(rows[0]) if centre is None else centre
    match kind:
        case "batchtopk":
            return kernel.encode_batchtopk(x, rows, bias, k, centre)
        case "scalar threshold":
            return kernel.encode_threshold(x, rows, bias, 0.3, centre)
        case "thresholds":
            floor = torch.linspace(-1, 1, len(rows), dtype=x.dtype)
            return kernel.encode_threshold(x, rows, bias, floor, centre)
        case "signed floors":
            return kernel.above(x, rows, bias, torch.linspace(-2, 1, len(rows), dtype=x.dtype), centre)
        case _:
            return kernel.sparsify((x - centre) @ rows.T + bias)


def run(kernel, kind: str, leaves: tuple[Tensor, ...], k: int):
    x, rows, bias, W_dec = (leaf.detach().requires_grad_() for leaf in leaves)
    centre = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype).requires_grad_()
    code = encode(kernel, kind, x, rows, bias, k, centre)
    y = kernel.sparse_decode(code, W_dec)
    weight = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    (y * weight).sum().backward()
    return code, y, [leaf.grad for leaf in (x, rows, bias, W_dec, centre)]


def agree(kernel, kind: str, leaves: tuple[Tensor, ...], k: int) -> None:
    code, y, gradients = run(kernel, kind, leaves, k)
    code_ref, y_ref, gradients_ref = run(reference, kind, leaves, k)
    assert code.shape == code_ref.shape
    assert torch.equal(code.starts, code_ref.starts)
    assert torch.equal(code.indices, code_ref.indices)
    rtol, atol = TOLERANCE[y.dtype]
    for ours, theirs in zip([code.values, y, *gradients], [code_ref.values, y_ref, *gradients_ref], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("kernel", "dtype"), CASES)
@settings(max_examples=40, deadline=None)
@given(size=sizes, seed=st.integers(0, 99), kind=st.sampled_from(KINDS), k=st.integers(1, 40), strided=st.booleans())
def test_value_and_gradient_equal_the_reference(kernel, dtype, size, seed, kind, k, strided):
    agree(kernel, kind, problem(size, dtype, seed, strided), min(k, size[2]))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_equals_the_reference(kind):
    agree(sparse, kind, problem((6, 8, 32), torch.bfloat16, 0, False), 4)


def coarse(kernel, kind: str, leaves: tuple[Tensor, ...], k: int) -> RaggedCode:
    x, rows, bias, _ = leaves
    match kind:
        case "batchtopk":
            return kernel.encode_batchtopk(x, rows, bias, k, selection=torch.bfloat16)
        case "scalar threshold":
            return kernel.encode_threshold(x, rows, bias, 0.3, selection=torch.bfloat16)
        case _:
            return kernel.above(x, rows, bias, torch.linspace(-2, 1, len(rows)), selection=torch.bfloat16)


@pytest.mark.parametrize("kernel", SPELLINGS)
@pytest.mark.parametrize("kind", ["batchtopk", "scalar threshold", "signed floors"])
@settings(max_examples=15, deadline=None)
@given(size=sizes, seed=st.integers(0, 99), k=st.integers(1, 40))
def test_pairs_chosen_in_bfloat16_have_exact_values(kernel, kind, size, seed, k):
    """Nearly those that float32 chooses: what only one of them has lies within bfloat16's rounding of the edge."""
    k, leaves = min(k, size[2]), tuple(leaf.requires_grad_() for leaf in problem(size, torch.float32, seed, False))
    code, exact = coarse(kernel, kind, leaves, k), leaves[0] @ leaves[1].T + leaves[2]
    values = exact[code.tokens, code.indices]
    expected = values if kind == "signed floors" else values * (code.values > 0)
    torch.testing.assert_close(code.values, expected, rtol=1e-4, atol=1e-4)
    ours, theirs = (torch.autograd.grad(v.sum(), leaves[:3], retain_graph=True) for v in (code.values, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    fine = coarse(reference, kind, leaves, k)
    margin = 0.02 * (1 + leaves[0].norm(dim=1, keepdim=True) * leaves[1].norm(dim=1)).detach()
    differ = (code.dense() != 0) ^ (fine.dense() != 0)
    edge = {"batchtopk": float(fine.values.detach().min()) if len(fine.values) else 0.0, "scalar threshold": 0.3}
    floor = edge.get(kind, torch.linspace(-2, 1, size[2]))
    assert ((exact - floor).abs() <= margin)[differ].all()


@pytest.mark.parametrize("kernel", SPELLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_samples_do_not_change_the_result(monkeypatch, kernel, kind):
    monkeypatch.setattr(selection, "BLOCK_ELEMENTS", 16 * 5)
    monkeypatch.setattr(selection, "BLOCK_TOKENS", 1)
    monkeypatch.setattr(selection, "N_SAMPLED", 2)
    agree(kernel, kind, problem((23, 5, 16), precision(kernel), 2, False), 4)


@pytest.mark.parametrize("kernel", SPELLINGS)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_ties_go_to_the_earlier_token_and_the_lower_latent(kernel, k):
    x, rows = torch.ones(5, 1), torch.ones(4, 1)
    agree(kernel, "batchtopk", (x, rows, torch.tensor([0.0, 1, 1, -2]), rows), k)


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_a_batch_with_a_few_large_tokens_is_found_exactly(monkeypatch, kernel):
    """The sample sees none of them, or them alone."""
    monkeypatch.setattr(selection, "N_SAMPLED", 4)
    leaves = problem((64, 5, 16), precision(kernel), 3, False)
    for large in (slice(1, 4), slice(0, 64, 16)):
        x = leaves[0].clone()
        x[large] *= 100
        agree(kernel, "batchtopk", (x, *leaves[1:]), 2)


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_all_negative_gives_nothing_and_no_gradient(kernel):
    x = torch.ones(3, 2, requires_grad=True)
    for code in (
        kernel.encode_batchtopk(x, -torch.ones(5, 2), torch.zeros(5), 2),
        kernel.encode_threshold(x, -torch.ones(5, 2), torch.zeros(5), -5.0),
    ):
        code.values.sum().backward()
        assert code.l0().tolist() == [0, 0, 0]
        assert x.grad is not None
        assert not x.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_against_finite_differences(kind):
    leaves = tuple(leaf.requires_grad_() for leaf in problem((4, 3, 7), torch.float64, 5, False))

    def forward(x, rows, bias, W_dec):
        return sparse.sparse_decode(encode(sparse, kind, x, rows, bias, 3), W_dec)

    assert torch.autograd.gradcheck(forward, leaves)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel", SPELLINGS)
def test_any_leading_axes(kernel, kind):
    x, rows, bias, W_dec = problem((24, 5, 16), torch.float32, 1, False)
    flat = encode(kernel, kind, x, rows, bias, 4)
    folded = encode(kernel, kind, x.view(2, 3, 4, 5), rows, bias, 4)
    assert folded.shape == (2, 3, 4)
    assert torch.equal(folded.dense().view(24, 16), flat.dense())
    assert torch.equal(kernel.sparse_decode(folded, W_dec).view(24, 5), kernel.sparse_decode(flat, W_dec))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel", SPELLINGS)
def test_equal_calls_give_equal_bits(kernel, kind):
    leaves = problem((300, 16, 64), torch.float32, 3, False)
    first, second = (run(kernel, kind, leaves, 8)[2] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(("kernel", "dtype"), CASES)
@settings(max_examples=25, deadline=None)
@given(size=sizes, seed=st.integers(0, 99), strided=st.booleans(), in_blocks=st.booleans())
def test_marks_and_their_sums_equal_the_reference(kernel, dtype, size, seed, strided, in_blocks):
    x, rows, bias, W_dec = problem(size, dtype, seed, strided)
    floor, threshold = torch.linspace(-2, 0, size[2], dtype=dtype), torch.linspace(-1, 1, size[2], dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        if in_blocks:
            patch.setattr(selection, "BLOCK_ELEMENTS", 2 * size[2])
            patch.setattr(selection, "BLOCK_TOKENS", 1)
        code, marks = kernel.above_and_between(x, rows, bias, floor, threshold)
        sums = kernel.marked_sums(x, W_dec, marks)
    expected, expected_marks = reference.above_and_between(x, rows, bias, floor, threshold)
    assert torch.equal(marks, expected_marks)
    assert torch.equal(code.indices, expected.indices)
    assert torch.equal(code.starts, expected.starts)
    rtol, atol = TOLERANCE[dtype]
    torch.testing.assert_close(code.values, expected.values, rtol=rtol, atol=atol)
    torch.testing.assert_close(sums, reference.marked_sums(x, W_dec, marks), rtol=rtol, atol=atol)
