"""Training from Python: stop, look, go on."""

import itertools
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import sae
from sae.activations.reader import Activations
from sae.core.errors import InputError
from sae.dictionary import Part
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import Places, TrainConfig
from sae.training.run import Training

X = Synthetic(SyntheticConfig(d=12, n_directions=24, l0=3), batch=300).batch(0)
CONFIG = TrainConfig(d_sae=32, l0=4, tokens=20 * 64, batch=64, log_every_steps=5)


def test_stopping_and_looking_changes_nothing() -> None:
    whole = sae.train(X, CONFIG).finish()
    training = sae.train(X, CONFIG)
    for progress in training:
        if progress.step == 7:
            break
    looked = training.dictionary
    seen = {name: value.clone() for name, value in looked.state_dict().items()}
    assert [progress.step for progress in itertools.islice(training, 3)] == [8, 9, 10]
    assert all(torch.equal(value, seen[name]) for name, value in looked.state_dict().items())
    assert not torch.equal(looked.W_dec, training.dictionary.W_dec)
    last = list(training)[-1]
    assert (last.step, training.n_steps) == (20, 20)
    assert last.metrics["fvu"] < 1
    assert list(training) == []
    for name, value in training.finish().state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])
    torch.testing.assert_close(whole(X), whole.decode(whole.encode(X)))


def test_a_run_goes_on_after_an_interrupt() -> None:
    class Interrupted:
        def __init__(self) -> None:
            self.asked = False

        def batch(self, step: int) -> torch.Tensor:
            if step == 5 and not self.asked:
                self.asked = True
                raise KeyboardInterrupt
            return X[:64]

    training = Training(sae.training.initial(X, CONFIG), Interrupted(), CONFIG)
    with pytest.raises(KeyboardInterrupt):
        training.finish()
    assert training.state.step == 5
    assert [progress.step for progress in training] == list(range(6, 21))


def test_ctrl_c_within_a_step_waits_for_its_end_and_nothing_is_done_twice() -> None:
    class Pressed:
        """Batches during the reading of which the user presses Ctrl-C, once."""

        def __init__(self) -> None:
            self.asked = False

        def batch(self, step: int) -> torch.Tensor:
            if step == 5 and not self.asked:
                self.asked = True
                signal.raise_signal(signal.SIGINT)
            return X[step : step + 64]

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
    state = sae.training.initial(X, CONFIG)
    training = Training(state, Pressed(), CONFIG)
    seen = [progress.step for progress in itertools.islice(training, 5)]
    with pytest.raises(KeyboardInterrupt):
        training.finish()
    assert training.state.step == 6
    assert [*seen, *(progress.step for progress in training)] == list(range(1, 21))
    calm = Pressed()
    calm.asked = True
    whole = Training(sae.training.initial(X, CONFIG), calm, CONFIG).finish()
    assert torch.equal(training.dictionary.W_dec, whole.W_dec)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_arrays_and_rows_of_numbers_are_tensors() -> None:
    small = CONFIG.model_copy(update={"tokens": 128})
    wanted = sae.train(X, small).finish().W_dec
    frozen = X.numpy().copy()
    frozen.setflags(write=False)
    for given in (X.numpy(), frozen, X.tolist()):
        assert torch.equal(sae.train(given, small).finish().W_dec, wanted)


def test_other_precisions_and_controls_and_several_sites() -> None:
    assert torch.equal(
        sae.train(X.double(), CONFIG).finish().W_dec, sae.train(X.double().float(), CONFIG).finish().W_dec
    )
    assert list(sae.train(X, CONFIG.model_copy(update={"preset": "random"}))) == []
    places = Places(source=(Part(site="mlp_in", d=8),), target=Part(site="mlp_out", d=4))
    transcoder = sae.train(X, CONFIG.model_copy(update={"preset": "transcoder"}), places).finish()
    assert (transcoder.d_in, transcoder.d_out) == (8, 4)


def test_a_folder_gives_its_sites_to_the_preset(harvested: Activations) -> None:
    small = {"d_sae": 32, "l0": 4, "batch": 64, "tokens": 128}
    pair = TrainConfig.model_validate(
        small | {"preset": "transcoder", "site": "blocks.0.mlp_in", "target": "blocks.0.mlp_out"}
    )
    config = sae.train(harvested, pair).finish().config
    assert (config.site, config.target) == ("blocks.0.mlp_in", "blocks.0.mlp_out")
    every = sae.train(harvested, TrainConfig.model_validate(small | {"preset": "crosscoder"})).finish().config
    assert [part.site for part in every.parts] == list(harvested.sites)
    for changes, message in (
        ({}, "site must name one of"),
        ({"preset": "transcoder", "site": "blocks.0.mlp_in"}, "needs site and target"),
        ({"site": "blocks.0.mlp_in", "end_to_end": "kl"}, "end_to_end is for the command sae train"),
    ):
        with pytest.raises(InputError, match=message):
            sae.train(harvested, TrainConfig.model_validate(small | changes))


def test_a_run_goes_on_from_a_dictionary(tmp_path: Path) -> None:
    first = sae.train(X, CONFIG).finish()
    first.save(tmp_path)
    training = sae.train(X, CONFIG.model_copy(update={"start_from": str(tmp_path)}))
    torch.testing.assert_close(training.dictionary(X), first(X))
    sparser = sae.train(X, CONFIG.model_copy(update={"start_from": str(tmp_path), "l0": 2}))
    assert sparser.dictionary.encode(X).l0().max() == 2
    for changes, message in (
        ({"preset": "gated"}, "the dictionary has activation topk, the run gated"),
        ({"d_sae": 16}, "the dictionary has d_sae 32, the run 16"),
    ):
        with pytest.raises(InputError, match=message):
            sae.train(X, CONFIG.model_copy(update={"start_from": str(tmp_path)} | changes))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:, None], r"\[token, d\] floating-point numbers, got torch.float32 of shape 300×1×12"),
        (X.int(), r"got torch.int32"),
        ([[1.0, 2.0], [3.0]], r"\[token, d\] numbers, got a list: expected sequence of length 2"),
        ("nowhere", "nowhere holds no activations"),
        (X[:50], "batch 64 is larger than the activations, with 50 rows"),
        (X * torch.nan, "not finite"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(x: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sae.train(x, CONFIG)
