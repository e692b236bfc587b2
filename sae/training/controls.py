"""Dictionaries that nobody trains, with the interface and the l0 of those that are trained.

    pca         ± the principal components, the most varying first
    random      random unit rows
    identity    ± every dimension

A component is two latents, one for each sign, since codes are not negative. Each token keeps its l0 largest: the
components that matter for it, where `sae.evaluation.pca` keeps the same ones for all.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.random import generator
from sae.core.streams import Covariance
from sae.dictionary import Dictionary, DictionaryConfig
from sae.training.config import CONTROLS, Preset
from sae.training.optimiser import unit_rows


def is_control(preset: Preset) -> bool:
    """Whether a preset is not trained."""
    return preset in CONTROLS


def control(
    preset: Preset,
    config: DictionaryConfig,
    x: Float[Tensor, "token d"],
    b_dec: Float[Tensor, "d"],
    seed: int,
) -> Dictionary:
    """The control for scaled activations like `x`; it may have fewer latents than asked for.

    Args:
        preset: which.
        config: what a trained dictionary would be.
        x: scaled activations.
        b_dec: their centre.
        seed: of random rows.
    """
    rows = _rows(preset, config, x, seed)[: config.d_sae]
    k = min(getattr(config.activation, "k", 1), len(rows))
    activation = config.activation.model_copy(update={"k": k})
    dictionary = Dictionary(config.model_copy(update={"d_sae": len(rows), "activation": activation}))
    dictionary = dictionary.to(b_dec.device)
    with torch.no_grad():
        dictionary.b_dec.copy_(b_dec)
        dictionary.W_dec.copy_(rows)
        dictionary.encoder_rows.copy_(rows)
    return dictionary


def _rows(preset: Preset, config: DictionaryConfig, x: Tensor, seed: int) -> Float[Tensor, "latent d"]:
    match preset:
        case "random":
            rows = torch.randn(config.d_sae, config.d_in, generator=generator(seed, "weights"))
            unit_rows(rows)
            return rows
        case "identity":
            return _both_signs(torch.eye(config.d_in))
        case "pca":
            covariance = Covariance(config.d_in)
            covariance.update(x.cpu())
            return _both_signs(torch.linalg.eigh(covariance.matrix).eigenvectors.flip(1).T.float())
        case _:
            raise AssertionError(f"{preset} is trained")


def _both_signs(rows: Tensor) -> Tensor:
    """Every row and its negative, one after the other."""
    return torch.stack([rows, -rows], dim=1).flatten(0, 1)
