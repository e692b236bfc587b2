"""Every preset and its variants, each with small data of its own, for the laws that hold of all."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from sae.dictionary import Dictionary, Part
from sae.dictionary.scale import over_columns
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import Places, State, TrainConfig, initial, loop, one_site, result

D = 16
DATA = Synthetic(SyntheticConfig(d=D, n_directions=24, l0=2, zipf=0.3, noise=0.01), batch=128)
ONE = one_site(D)
ACROSS = Places(source=(Part(site="a", d=D),), target=Part(site="b", d=12))
SIDE_BY_SIDE = Places(source=(Part(site="a", d=10), Part(site="b", d=6)))
WRITTEN = Synthetic(SyntheticConfig(d=12, n_directions=24, l0=2, seed=1)).directions
"""What the true latents write at a transcoder's target."""


@dataclass(frozen=True)
class Variant:
    """A preset with keys of its own, and the sites that it is trained on."""

    name: str
    keys: dict[str, Any]
    places: Places = ONE

    def config(self, **changes: Any) -> TrainConfig:
        sizes = {"d_sae": 32, "l0": 3, "tokens": 128 * 20, "batch": 128, "learning_rate": 3e-3}
        return TrainConfig.model_validate(sizes | self.keys | changes)

    def batch(self, step: int) -> torch.Tensor:
        """Sites of different scale, none of them centred."""
        x = DATA.batch(step) + 0.5
        match self.places:
            case Places(target=Part()):
                return torch.cat([x, 30 * DATA.codes(step) @ WRITTEN + 7], dim=1)
            case Places(source=(_, _)):
                return torch.cat([x[:, :10], 50 * x[:, 10:]], dim=1)
            case _:
                return x

    def start(self, **changes: Any) -> State:
        sample = torch.cat([self.batch(10**6 + i) for i in range(8)])
        return initial(sample, self.config(**changes), self.places)

    def trained(self, **changes: Any) -> State:
        state, config = self.start(**changes), self.config(**changes)
        for _ in loop(state, self, config):
            pass
        return state

    def true_rows(self, state: State) -> torch.Tensor:
        """What decoder rows should be, in scaled units."""
        if self.places == ACROSS:
            return WRITTEN
        return DATA.directions * over_columns(state.scales.source, state.dictionary.config.widths).float()

    def read(self, dictionary: Dictionary, step: int) -> torch.Tensor:
        """What a dictionary reads of a batch, in the units of the model."""
        return self.batch(step)[:, : dictionary.d_in]


VARIANTS = [
    Variant("topk", {"preset": "topk"}),
    Variant("topk-multi", {"preset": "topk", "multi_topk": True}),
    Variant("batchtopk", {"preset": "batchtopk"}),
    Variant("matryoshka", {"preset": "matryoshka"}),
    Variant("matryoshka-random", {"preset": "matryoshka", "prefixes": "random", "n_prefixes": 4}),
    Variant("relu", {"preset": "relu"}),
    Variant("jumprelu", {"preset": "jumprelu"}),
    Variant("jumprelu-quadratic", {"preset": "jumprelu", "penalty": "quadratic"}),
    Variant("jumprelu-tanh", {"preset": "jumprelu", "penalty": "tanh"}),
    Variant("gated", {"preset": "gated"}),
    Variant("matching-pursuit", {"preset": "matching_pursuit"}),
    Variant("transcoder", {"preset": "transcoder"}, ACROSS),
    Variant("transcoder-skip", {"preset": "transcoder", "skip": True}, ACROSS),
    Variant("crosscoder", {"preset": "crosscoder"}, SIDE_BY_SIDE),
    Variant("pca", {"preset": "pca"}),
    Variant("random", {"preset": "random"}),
    Variant("identity", {"preset": "identity"}),
]
BY_NAME = {variant.name: variant for variant in VARIANTS}
CONTROLS = ["pca", "random", "identity"]
TRAINED = [name for name in BY_NAME if name not in CONTROLS]


@pytest.fixture(params=BY_NAME, scope="module")
def variant(request) -> Variant:
    """Each variant in turn."""
    return BY_NAME[request.param]


@pytest.fixture(params=TRAINED, scope="module")
def learner(request) -> Variant:
    """Each variant that is trained, or those that a test names."""
    return BY_NAME[request.param]


@pytest.fixture(params=CONTROLS)
def control(request) -> Variant:
    """Each variant that is not."""
    return BY_NAME[request.param]


@pytest.fixture(scope="module")
def state(variant) -> State:
    """Of the variant, after a few steps."""
    return variant.trained()


@pytest.fixture(scope="module")
def dictionary(state) -> Dictionary:
    """Of the variant, after a few steps, in the units of the model."""
    return result(state)
