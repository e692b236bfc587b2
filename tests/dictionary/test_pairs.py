"""ReLU, JumpReLU and gates from pairs, or pairs and marks, equal the whole map: loss, code and every gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sae.dictionary import Dictionary, DictionaryConfig, Gated, JumpRelu, Relu, thresholds
from sae.kernels import DenseCode, RaggedCode
from sae.objective import Dead, GateReconstruction, Objective, Situation, StepL0, Tanh, TargetL0, WeightedL1

CASES = [
    pytest.param(Relu(), Objective(penalty=WeightedL1()), id="relu"),
    pytest.param(Gated(), Objective(penalty=WeightedL1(), gate=GateReconstruction()), id="gated"),
    pytest.param(JumpRelu(bandwidth=1.0), Objective(penalty=StepL0()), id="jumprelu-step"),
    pytest.param(JumpRelu(bandwidth=3.0), Objective(penalty=TargetL0(l0=2)), id="jumprelu-quadratic"),
    pytest.param(JumpRelu(bandwidth=0.5), Objective(penalty=Tanh()), id="jumprelu-tanh"),
]
N, D, D_SAE = 300, 8, 48


def build(activation: Any, dtype: torch.dtype) -> tuple[Dictionary, Tensor]:
    g = torch.Generator().manual_seed(0)
    dictionary = Dictionary(DictionaryConfig(d_in=D, d_out=D, d_sae=D_SAE, activation=activation)).train().to(dtype)
    with torch.no_grad():
        for name, parameter in dictionary.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g))
            if name == "threshold":
                parameter.abs_()
            if name == "b_enc":
                parameter.sub_(4)
    return dictionary, torch.randn(N, D, generator=g).to(dtype)


def whole_or_pairs(
    monkeypatch: pytest.MonkeyPatch, share: float, build_one: Any, objective: Objective, paired: float = 1.0
):
    """What the loss gives when pairs are taken up to that share of all, and marks above `paired`."""
    monkeypatch.setattr(thresholds, "PAIRED_SHARE", paired)
    monkeypatch.setattr(thresholds, "FIRING_SHARE", share)
    monkeypatch.setattr(thresholds, "NEAR_SHARE", share)
    dictionary, x = build_one
    dictionary.zero_grad()
    x = x.clone().requires_grad_()
    loss = objective.loss(
        dictionary, x, x.detach(), Situation(Dead(torch.zeros(D_SAE, dtype=torch.bool)), strength=0.3)
    )
    loss.total.backward()
    gradients = {"x": x.grad} | {name: p.grad for name, p in dictionary.named_parameters()}
    return loss, gradients


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("paired", [1.0, -1.0], ids=["pairs", "marks"])
@pytest.mark.parametrize(("activation", "objective"), CASES)
def test_pairs_equal_the_whole(monkeypatch, activation, objective, paired, dtype):
    problem = build(activation, dtype)
    whole, expected = whole_or_pairs(monkeypatch, -1.0, problem, objective)
    pairs, found = whole_or_pairs(monkeypatch, 1.0, problem, objective, paired)
    assert isinstance(whole.code, DenseCode)
    assert isinstance(pairs.code, RaggedCode)
    rtol, atol = (1e-4, 1e-5) if dtype == torch.float32 else (1e-9, 1e-11)
    for name in ("total", "reconstruction", "penalty", "reconstructed"):
        torch.testing.assert_close(getattr(pairs, name), getattr(whole, name), rtol=rtol, atol=atol)
    torch.testing.assert_close(pairs.code.dense(), whole.code.dense(), rtol=rtol, atol=atol)
    assert torch.equal(pairs.code.l0(), whole.code.l0())
    assert torch.equal(pairs.code.fired(), whole.code.fired())
    for name, gradient in expected.items():
        assert gradient is not None, name
        assert gradient.any(), name
        torch.testing.assert_close(found[name], gradient, rtol=rtol, atol=10 * atol, msg=lambda m, n=name: f"{n}: {m}")


def test_only_what_counts_steps_takes_marks(monkeypatch):
    monkeypatch.setattr(thresholds, "PAIRED_SHARE", -1.0)
    dictionary, x = build(JumpRelu(bandwidth=1.0), torch.float32)
    dictionary.b_enc.data -= 4
    near = dictionary.encoded(x, marks=True).near
    assert near is not None
    assert near.marks.any()
    assert dictionary.encoded(x).near is None


@pytest.mark.parametrize("activation", [Relu(), JumpRelu(bandwidth=1.0), Gated()])
def test_density_decides_and_few_tokens_are_whole(activation):
    dictionary, x = build(activation, torch.float32)
    assert isinstance(dictionary.encode(x[:40]), DenseCode)
    dictionary.b_enc.data -= 4
    assert isinstance(dictionary.encode(x), RaggedCode)
    dictionary.b_enc.data += 12
    assert isinstance(dictionary.encode(x), DenseCode)


@pytest.mark.parametrize("share", [-1.0, 1.0])
@pytest.mark.parametrize(("activation", "objective"), CASES)
def test_weights_that_are_no_numbers_are_heard(monkeypatch, activation, objective, share):
    dictionary, x = build(activation, torch.float32)
    dictionary.encoder_rows.data[5] = torch.nan
    loss, _ = whole_or_pairs(monkeypatch, share, (dictionary, x), objective)
    assert loss.total.isnan()
