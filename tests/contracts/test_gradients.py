"""The gradient of every preset's whole loss, in float64, against differences; where a step stops it, its surrogate.

1. The loss is differentiable almost everywhere once the selection is held, and a small enough move holds it; so
   central differences judge topk, batchtopk, matryoshka, matching pursuit, relu, gates and crosscoders as they are.
2. The thresholds of JumpReLU move nothing by a small move. Their surrogate replaces H(h − θ) by a ramp of width ε about
   θ, in the penalty and, at the height θ that an activation has when it appears, in the code.
3. AuxK's ReLU passes gradients straight through: its surrogate is max(h₀, 0) + h − h₀.
4. A gate's own reconstruction holds the decoder still.
"""

import pytest
import torch
from torch import Tensor

from sae.dictionary import Dictionary, JumpRelu
from sae.objective import AuxK, Dead, Objective, Situation
from sae.objective.gate import gate_loss
from sae.training import State
from sae.training.presets import objective_of
from sae.training.state import Batch, scaled

EPSILON = 1e-6
NONE_DEAD = torch.zeros(32, dtype=torch.bool)
STRENGTH = 0.05


@pytest.fixture(scope="module")
def problem(learner) -> tuple[Dictionary, Batch, Objective]:
    """A dictionary after a few steps, in float64 and training mode, a batch, and what it minimises."""
    state: State = learner.trained()
    dictionary = state.dictionary.double().train()
    objective = objective_of(learner.config(), dictionary.d_in)
    return dictionary, scaled(dictionary.config, state.scales, learner.batch(9).double()), objective


def loss_of(problem: tuple[Dictionary, Batch, Objective]) -> Tensor:
    dictionary, batch, objective = problem
    return objective.loss(dictionary, batch.x, batch.target, Situation(Dead(NONE_DEAD), STRENGTH, step=3)).total


def held_loss(problem: tuple[Dictionary, Batch, Objective], frozen: Dictionary) -> Tensor:
    """The loss in which a gate's own reconstruction goes through a decoder that stays as it is."""
    dictionary, batch, objective = problem
    encoded = dictionary.encoded(batch.x)
    moves, stays = (gate_loss(objective.gate, d, encoded, batch.target) for d in (dictionary, frozen))
    return loss_of(problem) - moves + stays


def gradients(dictionary: Dictionary, loss: Tensor) -> dict[str, Tensor]:
    names = [name for name, p in dictionary.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [dictionary.get_parameter(name) for name in names])
    return dict(zip(names, found, strict=True))


@torch.no_grad()
def difference(parameter: Tensor, direction: Tensor, loss, epsilon: float = EPSILON) -> float:
    """Of `loss` along a direction, central."""
    ends = []
    for sign in (1, -1):
        parameter.add_(direction, alpha=sign * epsilon)
        ends.append(float(loss()))
        parameter.add_(direction, alpha=-sign * epsilon)
    return (ends[0] - ends[1]) / (2 * epsilon)


def test_every_parameter_against_differences(problem):
    dictionary, _, _ = problem
    frozen = dictionary.copy()
    g = torch.Generator().manual_seed(0)
    for name, gradient in gradients(dictionary, loss_of(problem)).items():
        if name == "threshold":
            continue
        parameter = dictionary.get_parameter(name)
        for _ in range(2):
            direction = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
            expected = difference(parameter, direction, lambda: held_loss(problem, frozen))
            assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-8), name
        assert gradient.any(), name


def ramp(pre: Tensor, threshold: Tensor, width: float) -> Tensor:
    return ((pre - threshold) / width + 0.5).clamp(0, 1)


@pytest.mark.parametrize("width", [0.3, 2.0])
@pytest.mark.parametrize("learner", ["jumprelu", "jumprelu-quadratic", "jumprelu-tanh"], indirect=True, scope="module")
def test_thresholds_against_their_surrogate(problem, width):
    dictionary, batch, objective = problem
    narrow = dictionary.config.activation.model_copy(update={"bandwidth": width})
    assert isinstance(narrow, JumpRelu)
    dictionary.config = dictionary.config.model_copy(update={"activation": narrow})
    start = dictionary.threshold.detach().clone()
    pre = dictionary.pre_activations(batch.x).detach()
    code = pre * (pre > start)

    def surrogate() -> Tensor:
        step = ramp(pre, dictionary.threshold, width)
        z = code + start * (step - ramp(pre, start, width))
        error = (batch.target - z @ dictionary.W_dec - dictionary.b_dec).square().mean()
        n_active = ((pre > start) + step - ramp(pre, start, width)).sum(1).mean()
        match objective.penalty.kind:
            case "step":
                return error + STRENGTH * n_active
            case "quadratic":
                return error + STRENGTH * (n_active / 3 - 1).square()
            case _:
                size = torch.tanh(4 * z * dictionary.W_dec.norm(dim=1))
                return error + STRENGTH * size.sum(1).mean()

    found = gradients(dictionary, loss_of(problem))["threshold"]
    for latent in range(0, 32, 4):
        direction = torch.nn.functional.one_hot(torch.tensor(latent), 32).double()
        expected = difference(dictionary.threshold, direction, surrogate, 1e-7)
        assert float(found[latent]) == pytest.approx(expected, rel=1e-4, abs=1e-8)
    assert found.any()


@pytest.mark.parametrize(
    "learner",
    ["topk", "batchtopk", "jumprelu", "gated", "transcoder-skip", "crosscoder"],
    indirect=True,
    scope="module",
)
def test_auxk_against_its_surrogate(problem):
    dictionary, batch, objective = problem
    assert isinstance(objective.auxiliary, AuxK)
    dead = torch.arange(32) < 12
    loss = objective.loss(dictionary, batch.x, batch.target, Situation(Dead(dead), STRENGTH, step=3))
    x = dictionary.centred(batch.x).detach()
    residual = (batch.target - loss.reconstructed).detach()
    k = min(objective.auxiliary.k, max(1, int(12 * objective.auxiliary.share)))
    start = (x @ dictionary.encoder_rows[:12].T + dictionary.b_enc[:12]).detach()
    held = torch.zeros_like(start).scatter(1, start.topk(k).indices, 1.0)

    def surrogate() -> Tensor:
        pre = x @ dictionary.encoder_rows[:12].T + dictionary.b_enc[:12]
        predicted = (held * (start.relu() + pre - start)) @ dictionary.W_dec[:12]
        variance = (residual - residual.mean(0)).square().sum()
        return (residual - predicted).square().sum() / (32 * variance)

    torch.testing.assert_close(loss.auxiliary, surrogate())
    for name in ("encoder_rows", "b_enc", "W_dec"):
        parameter = dictionary.get_parameter(name)
        (found,) = torch.autograd.grad(loss.auxiliary, parameter, retain_graph=True)
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        expected = difference(parameter, direction, surrogate)
        assert float((found * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-9), name
