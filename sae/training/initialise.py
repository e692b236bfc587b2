"""What training starts from.

    s = √(d / E‖x − x̄‖²)        b_dec = s · geometric median        W_dec = random unit rows        W_enc = W_decᵀ

Scaled activations s·x have a centred mean square norm of d, so that rates, clipping and coefficients mean the same at
every site. The geometric median, argmin_m Σ‖x − m‖, is found by Weiszfeld's iteration; massive activations at a few
tokens do not drag it along as they do the mean. The tied start and the median are those of Gao et al. 2024,
arXiv:2406.04093, appendix A.1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import InputError
from sae.core.random import generator
from sae.dictionary import Dictionary, DictionaryConfig
from sae.training.optimiser import unit_rows

_TOLERANCE = 1e-5
_MAX_ITERATIONS = 100


def input_scale(sample: Float[Tensor, "token d"]) -> float:
    """What makes the centred mean square norm of `sample` equal to its width.

    Raises:
        InputError: activations that are not finite, or all equal.
    """
    if not sample.isfinite().all():
        raise InputError("the activations hold values that are not finite")
    x = sample.double()
    variance = float((x - x.mean(0)).square().sum(1).mean())
    if variance == 0:
        raise InputError("the activations are all equal: there is nothing to learn")
    return (sample.shape[1] / variance) ** 0.5


def geometric_median(sample: Float[Tensor, "token d"]) -> Float[Tensor, "d"]:
    """The point with the smallest sum of distances to the tokens of `sample`."""
    x = sample.double()
    median = x.mean(0)
    for _ in range(_MAX_ITERATIONS):
        weights = 1 / (x - median).norm(dim=1).clamp_min(1e-12)
        moved = (weights @ x) / weights.sum()
        done = (moved - median).norm() <= _TOLERANCE * median.norm()
        median = moved
        if done:
            break
    return median.to(sample.dtype)


def initial_dictionary(
    config: DictionaryConfig, sample: Float[Tensor, "token d"], scale: float, seed: int
) -> Dictionary:
    """Random unit decoder rows, the encoder their transpose, both biases as above; in scaled units.

    It lies on the device of `sample`; its numbers do not depend on the device.
    """
    dictionary = Dictionary(config).to(sample.device)
    rows = torch.randn(config.d_sae, config.d_out, generator=generator(seed, "weights"))
    with torch.no_grad():
        dictionary.W_dec.copy_(rows)
        unit_rows(dictionary)
        dictionary.encoder_rows.copy_(dictionary.W_dec)
        dictionary.b_dec.copy_(geometric_median(sample * scale))
    return dictionary
