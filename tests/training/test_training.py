"""Laws of training."""

from typing import Any

import pytest
import torch

from sae.core.errors import InputError, WorldError
from sae.core.measures import fvu
from sae.dictionary import Dictionary
from sae.objective import AuxK
from sae.synthetic import Synthetic, SyntheticConfig, mean_max_cosine
from sae.training import Batches, TrainConfig, dead, initial, loop, one_site, result, untrained
from sae.training.config import Preset
from sae.training.initialise import geometric_median
from sae.training.loop import recipe_of
from sae.training.presets import objective_of
from sae.training.schedule import Schedule, caution
from sae.training.step import step

DATA = Synthetic(SyntheticConfig(d=32, n_directions=64, l0=3, zipf=0.3), batch=512)


def small(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({"d_sae": 64, "l0": 4, "tokens": 512 * 40, "batch": 512} | changes)


def train(config: TrainConfig, data: Batches = DATA) -> Dictionary:
    state = initial(data.batch(10**6), config)
    for _ in loop(state, data, config):
        pass
    return result(state)


def test_synthetic_directions_are_recovered():
    config = small(tokens=512 * 300, learning_rate=8e-3)
    dictionary = train(config)
    before = untrained(DATA.batch(10**6), config)
    test = DATA.batch(10**6 + 1)
    assert mean_max_cosine(DATA.directions, dictionary.W_dec.detach()) >= 0.9
    assert mean_max_cosine(DATA.directions, before.W_dec.detach()) < 0.6
    assert fvu(test, dictionary(test).detach()) < 0.2
    assert dictionary.encode(test).fired().sum() >= 56  # the rarest fire less than once in 512 tokens


def test_decoder_rows_stay_unit_and_training_lowers_the_loss():
    config = small(log_every_steps=1, learning_rate=5e-3)
    state = initial(DATA.batch(10**6), config)
    losses = []
    for progress in loop(state, DATA, config):
        losses.append(progress.metrics["loss"])
        torch.testing.assert_close(state.dictionary.W_dec.detach().norm(dim=1), torch.ones(64))
    assert len(losses) == config.n_steps == 40
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


def test_the_result_is_in_the_units_of_the_model():
    config = small()
    state = initial(1000 * DATA.batch(10**6), config)
    x = DATA.batch(3)
    assert state.scale == pytest.approx(initial(DATA.batch(10**6), config).scale / 1000)
    torch.testing.assert_close(
        result(state)(1000 * x) * state.scale, state.dictionary(1000 * x * state.scale), rtol=1e-5, atol=1e-5
    )


def test_units_do_not_change_what_is_learnt():
    class Scaled:
        def batch(self, step: int) -> torch.Tensor:
            return 1024 * DATA.batch(step)

    config = small()
    ours, theirs = train(config), train(config, Scaled())
    torch.testing.assert_close(ours.W_dec, theirs.W_dec)
    torch.testing.assert_close(1024 * ours.b_dec, theirs.b_dec)


def test_the_start_is_tied_centred_and_of_unit_rows():
    config = small()
    sample = DATA.batch(10**6)
    dictionary = untrained(sample, config, one_site(32, "embed", "abc"))
    assert torch.equal(dictionary.encoder_rows, dictionary.W_dec)
    assert dictionary.encoder_rows.data_ptr() != dictionary.W_dec.data_ptr()
    torch.testing.assert_close(dictionary.b_dec.detach(), geometric_median(sample))
    assert (dictionary.config.site, dictionary.config.model) == ("embed", "abc")


def test_seeds_differ_and_repeat():
    sample = DATA.batch(10**6)
    first, again, other = (untrained(sample, small(seed=s)).W_dec for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_geometric_median_resists_an_outlier():
    points = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5], [1e6, 1e6]])
    assert (geometric_median(points) - 0.5).norm() < 0.5


def test_auxk_revives_planted_dead_latents():
    def n_alive(coefficient: float) -> int:
        config = small(auxk_coefficient=coefficient, dead_after_tokens=1024, tokens=512 * 120)
        state = initial(DATA.batch(10**6), config)
        with torch.no_grad():
            state.dictionary.encoder_rows[:32] *= 1e-2
            state.dictionary.b_enc[:32] = -0.1
        for _ in loop(state, DATA, config):
            pass
        return int(result(state).encode(DATA.batch(10**6 + 1)).fired()[:32].sum())

    assert n_alive(0.0) == 0
    assert n_alive(1 / 32) >= 24


@pytest.mark.parametrize(("preset", "said", "k"), [("topk", None, 32), ("jumprelu", None, 12), ("jumprelu", 50, 50)])
def test_jumprelu_takes_no_more_dead_latents_than_twice_l0(preset, said, k):
    config = TrainConfig(preset=preset, d_sae=256, l0=6, tokens=100, k_aux=said)
    auxiliary = objective_of(config, 64).auxiliary
    assert isinstance(auxiliary, AuxK)
    assert auxiliary.k == k


def test_dead_counters_begin_again_when_a_latent_fires():
    config = small()
    state = initial(DATA.batch(10**6), config)
    recipe = recipe_of(state, config)
    state.tokens_since_fired.fill_(10)
    fired = step(state, DATA.batch(0), recipe).fired
    assert fired.any()
    assert torch.equal(state.tokens_since_fired, torch.where(fired, 0, 522))
    assert dead.is_dead(state.tokens_since_fired, 522).sum() == (~fired).sum()


def test_dead_latents_come_back_no_louder_than_the_others():
    """AuxK pulls at 32 latents that cannot fire: held back they stay as long as the others, else they outgrow them."""

    def longest(hold: bool) -> float:
        config = small(dead_after_tokens=512, learning_rate=3e-2, tokens=512 * 30)
        state = initial(DATA.batch(10**6), config)
        dictionary, recipe = state.dictionary, recipe_of(state, config)._replace(hold_dead=hold)
        for i in range(30):
            with torch.no_grad():
                dictionary.b_enc[:32] = -100.0
            step(state, DATA.batch(i), recipe)
        norms = dictionary.encoder_rows.detach().norm(dim=1)
        return float(norms[:32].max() / norms[32:].mean())

    assert recipe_of(initial(DATA.batch(10**6), small()), small()).hold_dead
    assert longest(True) < 1.05
    assert longest(False) > 1.2


def test_the_dead_window_follows_the_run():
    assert dead.window(123, 10**6, 4096) == 123
    assert dead.window("auto", 10**12, 4096) == 10_000_000
    assert dead.window("auto", 8192, 4096) <= 5 * 4096
    assert dead.window("auto", 1_000_000, 4096) < dead.window("auto", 8_000_000, 4096)


def test_schedule_warms_up_stays_and_decays():
    schedule = Schedule(peak=1.0, n_steps=100, warmup_fraction=0.1, decay_fraction=0.2)
    rates = [schedule.rate(i) for i in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert all(r == 1.0 for r in rates[9:80])
    assert rates[99] == pytest.approx(0.05)
    assert all(0 < r <= 1 for r in rates)
    assert Schedule(1.0, 1, 0.0, 0.0).rate(0) == 1.0


def test_the_automatic_rate_follows_batch_and_width():
    assert small(batch=400).schedule(100).peak == pytest.approx(2 * small(batch=100).schedule(100).peak)
    assert small().schedule(400).peak == pytest.approx(small().schedule(100).peak / 2)
    assert small(learning_rate=1e-3).schedule(400).peak == 1e-3
    assert small(batch=10**6).schedule(64).peak <= 0.02


def test_the_automatic_rate_falls_with_latents_and_steps_where_both_are_many():
    def rate(d_sae: int, n_steps: int, preset: Preset = "topk", d: int = 64) -> float:
        return small(preset=preset, d_sae=d_sae, batch=1024, tokens=1024 * n_steps).schedule(d).peak

    most = rate(64, 100)
    assert rate(1024, 1000) == rate(8192, 125) == rate(64, 10_000) == pytest.approx(most)
    assert rate(4096, 1000) == rate(1024, 4000) == pytest.approx(most / 2)
    assert rate(4096, 1000, "relu") == pytest.approx(most)
    assert rate(4096, 1000, d=512) == pytest.approx(rate(64, 100, d=512))
    assert rate(16_384, 1000, d=512) == pytest.approx(rate(64, 100, d=512) / 2)


def test_the_automatic_rate_falls_earlier_where_latents_and_steps_are_many():
    def decay(d_sae: int, n_steps: int, preset: Preset = "topk", **more: float) -> float:
        config = small(preset=preset, d_sae=d_sae, batch=1024, tokens=1024 * n_steps, **more)
        return config.schedule(64).decay_fraction

    assert decay(64, 100) == decay(1024, 1000) == decay(8192, 500) == pytest.approx(1 / 5)
    assert decay(2048, 1000) == decay(1024, 2000) == pytest.approx(2 / 5)
    assert decay(8192, 10_000) == pytest.approx(1 / 2)
    assert decay(8192, 10_000, "relu") == decay(8192, 10_000, "jumprelu") == pytest.approx(1 / 5)
    assert decay(8192, 10_000, decay_fraction=0.1) == 0.1
    assert decay(8192, 10_000, warmup_fraction=0.75) == pytest.approx(1 / 4)


def test_runs_that_the_defaults_were_not_chosen_for_are_named():
    assert caution(1000, 1_000_000) == caution(0, 10**9) == ()
    assert "raise tokens" in caution(40, 40 * 512)[0]
    assert "learning_rate" in caution(10**5, 10**8)[0]


@pytest.mark.parametrize(("value", "cause"), [(torch.nan, "1 of its 512 tokens"), (1e30, "diverged")])
def test_the_first_loss_that_is_not_finite_stops_the_run_and_names_the_step(value, cause):
    class Broken:
        def batch(self, step: int) -> torch.Tensor:
            x = DATA.batch(step).clone()
            if step == 3:
                x[17, 5] = value
            return x

    config = small(tokens=512 * 10)
    state = initial(DATA.batch(10**6), config)
    with pytest.raises(WorldError, match=rf"step 3 \(tokens 1536 to 2048.*in reconstruction.*{cause}"):
        for _ in loop(state, Broken(), config):
            pass
    assert state.step == 3
    assert all(p.isfinite().all() for p in state.dictionary.parameters())


def test_metrics_are_logged_every_so_often_and_at_the_end():
    config = small(tokens=512 * 10, log_every_steps=4)
    state = initial(DATA.batch(10**6), config)
    progress = list(loop(state, DATA, config))
    assert [p.step for p in progress] == list(range(1, 11))
    assert [p.step for p in progress if p.metrics] == [4, 8, 10]
    assert progress[-1].n_tokens == 5120
    assert {"loss", "fvu", "l0", "auxk", "gate", "dead_window_fraction", "learning_rate", "gradient_norm"} < set(
        progress[-1].metrics
    )


@pytest.mark.parametrize("sample", [torch.ones(10, 4), torch.full((10, 4), torch.inf), torch.ones(1, 4)])
def test_a_sample_that_cannot_be_trained_on_is_refused(sample):
    with pytest.raises(InputError):
        initial(sample, small(d_sae=8, l0=2))


def test_activations_of_another_width_are_refused():
    config = small()
    with pytest.raises(InputError, match=r"16.*32"):
        next(loop(initial(torch.randn(50, 16), config), DATA, config))


def test_more_latents_than_exist_names_both():
    with pytest.raises(ValueError, match="l0 65 is larger than d_sae 64"):
        small(l0=65)
    with pytest.raises(InputError, match="l0 65 is larger than d_sae 64"):
        untrained(DATA.batch(0), small().model_copy(update={"l0": 65}))
