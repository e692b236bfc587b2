"""Every preset that is trained, and where it reads and writes in batches of twelve columns."""

from typing import get_args

from sae.dictionary import Part
from sae.training import Places, TrainConfig, one_site
from sae.training.config import CONTROLS, Preset

TRAINED = [preset for preset in get_args(Preset) if preset not in CONTROLS]


def places_of(config: TrainConfig) -> Places:
    """One site of width 12; two of width 6 for a crosscoder; widths 8 and 4 for a transcoder."""
    match config.preset:
        case "transcoder":
            return Places(source=(Part(site="mlp_in", d=8),), target=Part(site="mlp_out", d=4))
        case "crosscoder":
            return Places(source=(Part(site="embed", d=6), Part(site="final", d=6)))
        case _:
            return one_site(12)
