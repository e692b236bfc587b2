"""Shares of latents: split then join is the identity; top-k over shares is top-k over the whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae.kernels import FixedCode, reference, sparse_decode
from sae.parallel import join, merged, share, split

ALONG = {"encoder_rows": 0, "adam.exp_avg.W_enc": 1, "tokens_since_fired": 0}


def state(d_sae: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(d_sae)
    return {
        "encoder_rows": torch.randn(d_sae, 3, generator=g),
        "adam.exp_avg.W_enc": torch.randn(3, d_sae, generator=g),
        "tokens_since_fired": torch.arange(d_sae),
        "b_dec": torch.randn(3, generator=g),
        "step": torch.tensor(7.0),
    }


@given(st.integers(0, 40), st.integers(1, 7))
def test_shares_are_consecutive_even_and_whole(d_sae: int, n: int) -> None:
    shares = [share(d_sae, rank, n) for rank in range(n)]
    assert [latent for s in shares for latent in range(s.start, s.stop)] == list(range(d_sae))
    sizes = [s.stop - s.start for s in shares]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 40), st.integers(1, 7))
def test_split_then_join_is_the_identity(d_sae: int, n: int) -> None:
    whole = state(d_sae)
    back = join([split(whole, ALONG, rank, n) for rank in range(n)], ALONG)
    assert back.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(back[name], tensor), name


def test_ranks_that_differ_in_what_they_should_share_are_not_joined() -> None:
    parts = [split(state(8), ALONG, rank, 2) for rank in range(2)]
    parts[1]["b_dec"] = parts[1]["b_dec"] + 1
    with pytest.raises(AssertionError, match="ranks differ"):
        join(parts, ALONG)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 30), st.booleans())
def test_topk_over_shares_is_topk_over_the_whole(d_sae: int, n: int, k: int, ties: bool) -> None:
    k = min(k, d_sae)
    pre = torch.randn(2, 5, d_sae, generator=torch.Generator().manual_seed(d_sae * 31 + k), dtype=torch.float64)
    pre = pre.round() if ties else pre
    whole = reference.topk(pre, k)
    found = merged(parts_of(pre, n, k), k)
    assert found.d_sae == whole.d_sae
    assert torch.equal(found.values, whole.values)
    assert torch.equal(found.dense(), whole.dense())
    positive = whole.values > 0
    assert torch.equal(found.indices[positive], whole.indices[positive])


def parts_of(pre: torch.Tensor, n: int, k: int) -> list[FixedCode]:
    """What each of n ranks selects of its own latents."""
    shares = [share(pre.shape[-1], rank, n) for rank in range(n)]
    return [reference.topk(pre[..., s], min(k, s.stop - s.start)) for s in shares]


def test_merging_carries_the_gradient() -> None:
    pre = torch.randn(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    rows = torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for code in (merged(parts_of(pre, 3, 5), 5), reference.topk(pre, 5)):
        gradients.append(torch.autograd.grad(sparse_decode(code, rows).square().sum(), pre)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0].abs().sum() > 0
