"""On a model with a planted mean and planted sinks, following the advice lowers the share of dead latents.

The closed loop: a harvest as it comes, its health, the advice; then the same text with the keys that the advice gives,
and nothing else changed. Dead latents fire on none of the rows of the test split of their own harvest.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae.activations import health
from sae.activations.advice import Advice, advise
from sae.activations.config import Exclude, HarvestConfig
from sae.activations.harvest import Harvest
from sae.activations.reader import Activations
from sae.activations.shuffle import Mixing, ShuffledBatches
from sae.activations.silent import Shape
from sae.core.splits import Fractions
from sae.lm.load import LoadedModel
from sae.lm.tiny import tiny
from sae.training import TrainConfig, initial, loop, result
from tests.activations.conftest import some_texts, word_tokenizer

SITE, SHAPE, SEEDS = "blocks.1.resid_post", Shape(d_sae=128, l0=4), (0, 1, 2)
GAMMA, SINK_TOKEN, SINK_TIMES = 8.0, 5, 60.0
PLAIN: dict[str, Any] = {"train.scale": "none"}
"""How activations are trained on where nobody asked for their health."""


def planted_model() -> LoadedModel:
    """Every embedding has one large direction in common, and one token a very large one of its own."""
    model = tiny("llama")
    weight = model.get_submodule("model.embed_tokens").weight
    assert isinstance(weight, torch.Tensor)
    with torch.no_grad():
        deviation = float((weight - weight.mean(0)).square().sum(1).mean().sqrt())
        common = torch.nn.functional.normalize(torch.ones(weight.shape[1]), dim=0)
        weight += GAMMA * deviation * common
        weight[SINK_TOKEN, ::2] += SINK_TIMES * GAMMA * deviation
    return LoadedModel(model, word_tokenizer(), "0" * 64, "planted")


def harvested(folder: Path, settings: dict[str, Any]) -> Activations:
    """The harvest of the planted model under settings such as {"harvest.exclude.high_norm": 10}."""
    folder.mkdir()
    exclude = {key.split(".")[-1]: value for key, value in settings.items() if key.startswith("harvest.exclude.")}
    config = HarvestConfig(
        window=16,
        dtype="float32",
        exclude=Exclude.model_validate(exclude),
        fractions=Fractions(train=0.6, validation=0.1, test=0.3),
    )
    for _ in Harvest(planted_model(), [SITE], config, folder).run(some_texts(400)):
        pass
    return Activations(folder)


def dead_fraction(activations: Activations, settings: dict[str, Any], seed: int) -> float:
    """Of a dictionary that is trained with settings such as {"train.scale": "auto"}, on the test split."""
    config = TrainConfig(
        d_sae=SHAPE.d_sae, l0=SHAPE.l0, tokens=8_000, batch=256, seed=seed, scale=settings["train.scale"]
    )
    state = initial(activations.sample("train", SITE, 4096), config)
    batches = ShuffledBatches(activations, SITE, "train", config.batch, seed, Mixing(4096, 16))
    for _ in loop(state, batches, config):
        pass
    batches.close()
    fired = result(state).encode(activations.rows("test", SITE)).fired()
    return float((fired == 0).double().mean())


def followed(advice: tuple[Advice, ...]) -> dict[str, Any]:
    """The keys of all findings that are more than fine."""
    keys = {one.key: one.value for one in advice if one.key and one.level != "fine" and one.key != "harvest.dtype"}
    return {key: value if value == "auto" else float(value) for key, value in keys.items()}


def test_following_the_advice_lowers_the_dead_fraction(tmp_path: Path) -> None:
    as_it_comes = harvested(tmp_path / "plain", PLAIN)
    found = health.read(tmp_path / "plain").sites[SITE]
    advice = advise(SITE, found, SHAPE)
    assert {one.topic for one in advice if one.level == "trouble"} >= {"mean", "sinks"}
    settings = followed(advice)
    assert settings == {"train.scale": "auto", "harvest.exclude.high_norm": 10.0}

    as_advised = harvested(tmp_path / "advised", settings)
    after = {one.topic: one for one in advise(SITE, health.read(tmp_path / "advised").sites[SITE], SHAPE)}
    assert after["sinks"].level == "fine"
    without = np.array([dead_fraction(as_it_comes, PLAIN, seed) for seed in SEEDS])
    with_advice = np.array([dead_fraction(as_advised, settings, seed) for seed in SEEDS])
    gain = without - with_advice
    half = 4.303 * gain.std(ddof=1) / len(SEEDS) ** 0.5  # Student's t, 2 degrees of freedom, 95 %
    assert gain.mean() - half > 0.1
