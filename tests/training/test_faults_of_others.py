"""Faults that other libraries had, each of which must not come back here.

| fault | kind | seen in |
|---|---|---|
| AuxK and Multi-TopK give the encoder no gradient: nothing dead is revived through its row | gradient | sparsify |
| AuxK decodes with the decoder's bias, which explains the residual's mean | loss | sparsify |
| AuxK's target lets its gradient into the living latents | loss | SAELens |
| JumpReLU's step is of what came out of it: half of the threshold's gradient is lost | gradient | dictionary_learning |
| a threshold kept as a logarithm does not move under Adam; one in bfloat16 freezes | optimiser | SAELens |
| BatchTopK's threshold starts at 0 and takes hundreds of steps: short runs save one that is too low | state | SAELens |
| BatchTopK's threshold is no buffer, and is lost with the file | state | Overcomplete |
| Matryoshka's error is divided twice, so that AuxK weighs n times as much beside it | loss | dictionary_learning |
| resampling writes to copies of rows and changes nothing | optimiser | dictionary_learning |
| "geometric median" is the mean | start | Llamascopium |
| gradients are projected after rows were normalised, or after Adam has seen them | optimiser | OpenAI's |
| what is saved on the way is in scaled units | state | SAELens |
| looking at a run in evaluation mode changes what is trained afterwards | state | Overcomplete |

Accumulation that only divides the loss (sparsify) and counters that a resume forgets (Llamascopium) are judged by
`test_parts` and `test_resume`; strengths at which L0 does not answer (SAELens) by `tests/contracts/test_one_knob`.
"""

from typing import Any

import pytest
import torch

import sae
from sae.core.measures import fvu
from sae.dictionary import Dictionary, DictionaryConfig, JumpRelu, TopK
from sae.dictionary.jumprelu import active
from sae.objective import AuxK, Dead, MeanSquare, MultiTopK, Nested, Objective, Situation
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import State, TrainConfig, checkpoint, initial, loop, result
from sae.training.initialise import start_of
from sae.training.loop import recipe_of
from sae.training.resample import Resampling, resample
from sae.training.step import step

DATA = Synthetic(SyntheticConfig(d=16, n_directions=24, l0=2, zipf=0.3), batch=128)
SAMPLE = torch.cat([DATA.batch(10**6 + i) for i in range(8)])
DEAD = torch.arange(32) < 10
NONE = torch.zeros(32, dtype=torch.bool)


def config_of(preset: str, n_steps: int = 20, **keys: Any) -> TrainConfig:
    sizes = {"preset": preset, "d_sae": 32, "l0": 3, "batch": 128, "tokens": 128 * n_steps, "learning_rate": 3e-3}
    return TrainConfig.model_validate(sizes | keys)


def trained(config: TrainConfig, scale: float = 1.0, look: bool = False) -> State:
    class Scaled:
        def batch(self, step: int) -> torch.Tensor:
            return scale * DATA.batch(step)

    state = initial(scale * SAMPLE, config)
    for _ in loop(state, Scaled(), config):
        if look:
            seen = result(state)
            seen.encode(DATA.batch(0))
            seen.train()
    return state


def random_topk(k: int = 3) -> Dictionary:
    dictionary = Dictionary(DictionaryConfig(d_in=16, d_out=16, d_sae=32, activation=TopK(k=k)))
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in dictionary.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g))
        dictionary.b_enc[DEAD] -= 20
    return dictionary


def loss_of(dictionary: Dictionary, objective: Objective, dead: torch.Tensor = NONE):
    x = DATA.batch(0)
    return objective.loss(dictionary, x, x, Situation(Dead(dead)))


def test_auxk_reaches_the_encoder_of_the_dead():
    dictionary = random_topk()
    with torch.no_grad():
        dictionary.b_enc[DEAD] += 18
    loss_of(dictionary, Objective(auxiliary=AuxK(k=10)), DEAD).auxiliary.backward()
    assert dictionary.encoder_rows.grad is not None
    assert (dictionary.encoder_rows.grad[DEAD].norm(dim=1) > 0).all()


def test_multi_topk_reaches_the_encoder_of_latents_beyond_k():
    dictionary, x = random_topk(), DATA.batch(0)[:1]
    pre = dictionary.pre_activations(x)[0]
    order = pre.argsort(descending=True)
    beyond = order[3:12][pre[order[3:12]] > 0]
    assert len(beyond) > 3
    Objective(reconstruction=MultiTopK()).loss(dictionary, x, x, Situation(Dead(NONE))).total.backward()
    assert dictionary.encoder_rows.grad is not None
    assert (dictionary.encoder_rows.grad[beyond].norm(dim=1) > 0).all()


def test_auxk_has_no_bias():
    """Latents that predict nothing leave everything of a residual whose mean is the bias."""
    dictionary = random_topk()
    with torch.no_grad():
        dictionary.W_dec[DEAD] = 0
    loss = loss_of(dictionary, Objective(auxiliary=AuxK(k=4, coefficient=1.0)), DEAD)
    residual = DATA.batch(0) - loss.reconstructed
    expected = residual.square().sum() / (residual - residual.mean(0)).square().sum()
    torch.testing.assert_close(loss.auxiliary, expected)


def test_auxk_leaves_the_living_alone():
    dictionary = random_topk()
    with torch.no_grad():
        dictionary.b_enc[DEAD] += 18
    loss_of(dictionary, Objective(auxiliary=AuxK(k=4)), DEAD).auxiliary.backward()
    for parameter in (dictionary.encoder_rows, dictionary.W_dec, dictionary.b_enc):
        assert parameter.grad is not None
        assert not parameter.grad[~DEAD].any()
    assert dictionary.b_dec.grad is None or not dictionary.b_dec.grad.any()


def test_the_step_is_of_pre_activations():
    """Half of the tokens near a threshold lie below it; they are worth as much as the others."""
    threshold = torch.full((1,), 0.5, requires_grad=True)
    pre = torch.linspace(0.41, 0.59, 10)[:, None]
    active(pre, threshold, 0.2).sum().backward()
    assert threshold.grad is not None
    assert float(threshold.grad) == pytest.approx(-10 / 0.2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_thresholds_move_under_adam(precision):
    config = config_of("jumprelu", precision=precision)
    start, end = initial(SAMPLE, config).dictionary, trained(config).dictionary
    assert isinstance(end.config.activation, JumpRelu)
    assert end.threshold.dtype == torch.float32
    moved = (end.threshold - start.threshold).detach().abs()
    assert (moved > 1e-2 * start.threshold.detach()).double().mean() > 0.9


@pytest.mark.parametrize("n_steps", [1, 5, 30])
def test_batchtopk_has_a_threshold_that_can_be_used_after_few_steps(n_steps):
    dictionary = result(trained(config_of("batchtopk", n_steps)))
    assert float(dictionary.encode(DATA.batch(99)).l0().double().mean()) == pytest.approx(3, rel=0.25)


def test_batchtopks_threshold_is_saved(tmp_path):
    dictionary = result(trained(config_of("batchtopk")))
    dictionary.save(tmp_path)
    assert "threshold" in dictionary.state_dict()
    assert float(sae.load(tmp_path).threshold) == float(dictionary.threshold) > 0


def test_matryoshka_weighs_as_one_error():
    """Where the first latents explain all that is explained, every prefix has the plain error, so their mean too."""
    dictionary = random_topk()
    with torch.no_grad():
        dictionary.b_enc[16:] -= 50
        dictionary.b_enc[DEAD] += 20
    nested, plain = (
        loss_of(dictionary, Objective(reconstruction=how, auxiliary=AuxK(k=4)), torch.arange(32) >= 16)
        for how in (Nested(prefixes=(16, 20, 24, 32)), MeanSquare())
    )
    torch.testing.assert_close(nested.total - nested.auxiliary, plain.total - plain.auxiliary)
    torch.testing.assert_close(nested.auxiliary, plain.auxiliary)


def test_resampling_changes_rows_and_moments():
    state = trained(config_of("relu"))
    before = {name: p.detach().clone() for name, p in state.dictionary.named_parameters()}
    assert resample(state, DATA.batch(3), DEAD, Resampling(times=4, size=0.2, seed=0)) == 10
    for name in ("W_dec", "encoder_rows", "b_enc"):
        parameter = state.dictionary.get_parameter(name)
        changed = (parameter != before[name]).reshape(32, -1).any(1)
        assert torch.equal(changed, DEAD), name
        for moment in ("exp_avg", "exp_avg_sq"):
            value = state.optimiser.state[parameter][moment]
            assert not value[DEAD].any()
            assert value[~DEAD].any()


def test_the_geometric_median_is_not_the_mean():
    x = torch.cat([SAMPLE, SAMPLE[:50] + 40])
    start = start_of(x, "median")
    centre = start.b_dec / start.scale
    assert (centre - SAMPLE.mean(0)).norm() < 0.2 * (x.mean(0) - SAMPLE.mean(0)).norm()


def test_adam_never_sees_what_normalising_would_undo():
    config = config_of("topk")
    state = initial(SAMPLE, config)
    rows = state.dictionary.W_dec.detach().clone()
    step(state, DATA.batch(0), recipe_of(state, config))
    moment = state.optimiser.state[state.dictionary.W_dec]["exp_avg"]
    assert moment.any()
    assert float(torch.linalg.vecdot(moment, rows).abs().max()) < 1e-5 * float(moment.norm(dim=1).max())
    torch.testing.assert_close(state.dictionary.W_dec.detach().norm(dim=1), torch.ones(32))


@pytest.mark.parametrize("preset", ["topk", "batchtopk", "jumprelu"])
def test_what_is_saved_on_the_way_is_in_the_units_of_the_model(preset, tmp_path):
    config = config_of(preset, n_steps=40)
    state = trained(config, scale=1000.0)
    found, _ = checkpoint.read(checkpoint.save(state, config, tmp_path), config)
    x = 1000 * DATA.batch(77)
    assert fvu(x, result(found)(x).detach()) < 0.8


@pytest.mark.parametrize("preset", ["batchtopk", "matching_pursuit", "jumprelu"])
def test_looking_at_a_run_does_not_change_it(preset):
    seen, alone = (trained(config_of(preset, 10), look=look).dictionary.state_dict() for look in (True, False))
    assert all(torch.equal(seen[name], alone[name]) for name in alone)
