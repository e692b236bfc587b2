"""`l0` means the same everywhere: what a run ends with has it within 5 % on tokens that it never saw.

Small and short on purpose: 64 latents, 200 steps of 256 tokens of synthetic data; and real activations, of the
microworld's model, whose codes grow sparser all along a run. `topk`, `transcoder` and matching pursuit keep l0 at
most, as negative pre-activations are dropped.
"""

from typing import Any

import pytest
import torch

from sae.dictionary import Part
from sae.lm import encode, load_model, pad, reading
from sae.microworld import documents, folder
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import Places, TrainConfig, initial, loop, one_site, result
from sae.training.run import train

DATA = Synthetic(SyntheticConfig(d=32, n_directions=64, l0=3, zipf=0.3, noise=0.02), batch=256)
HELD_OUT = torch.cat([DATA.batch(2 * 10**6 + i) for i in range(8)])
SAMPLE = torch.cat([DATA.batch(10**6 + i) for i in range(8)])
TWO = Places(source=(Part(site="a", d=20), Part(site="b", d=12)))
RUNS: list[tuple[dict[str, Any], int]] = [
    *(({"preset": preset}, seed) for preset in ("relu", "gated", "jumprelu", "crosscoder") for seed in range(3)),
    ({"preset": "jumprelu", "penalty": "quadratic"}, 0),
    ({"preset": "jumprelu", "penalty": "tanh"}, 1),
    ({"preset": "batchtopk"}, 2),
]


@pytest.mark.parametrize(("keys", "seed"), RUNS, ids=lambda v: "-".join(v.values()) if isinstance(v, dict) else str(v))
def test_l0_is_reached(keys, seed):
    sizes = {"d_sae": 64, "l0": 4, "batch": 256, "tokens": 200 * 256, "seed": seed}
    config = TrainConfig.model_validate(sizes | keys)
    state = initial(SAMPLE, config, TWO if config.preset == "crosscoder" else one_site(32))
    for _ in loop(state, DATA, config):
        pass
    l0 = result(state).encode(HELD_OUT).l0().double().mean()
    assert float(l0) == pytest.approx(4, rel=0.05)


def activations(name: str, n_tokens: int) -> torch.Tensor:
    """Of texts of the microworld, where its model has read them."""
    model, site = load_model(str(folder())), "blocks.2.resid_post"
    batch = pad([encode(model, document.text).ids for document in documents(0, n_tokens, name)])
    with torch.no_grad(), reading(model, [site]) as captured:
        model(**batch.inputs())
    return captured[site][batch.attention_mask.bool()]


def test_l0_is_reached_on_real_activations():
    config = TrainConfig(preset="relu", d_sae=128, l0=8, batch=256, tokens=300 * 256)
    dictionary = train(activations("text", 15_000), config).finish()
    assert float(dictionary.encode(activations("other", 6_000)).l0().double().mean()) == pytest.approx(8, rel=0.05)
