"""The first weights of a dictionary, in scaled units.

    W_dec = random unit rows        W_enc = W_decᵀ (a copy, but in matching pursuit)        b_dec = the centre

1. Rows are tied at the start, as in Gao et al. 2024, arXiv:2406.04093, appendix. A transcoder's encoder is random;
   its decoder starts from what it reads of the target, the unit rows of W_enc E[(x − x̄)(y − ȳ)ᵀ], and its encoder bias
   subtracts the centre: b_enc = −W_enc m.
2. What decides how many latents fire starts where l0 of them do in the sample: the thresholds of BatchTopK and
   JumpReLU at the l0 · n-th largest pre-activation, the biases of ReLU and gates at its negative. So no preset begins
   with half of its latents on, and the controller has little way to go.
"""

from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from sae import kernels
from sae.core.random import generator
from sae.dictionary import BatchTopK, Dictionary, DictionaryConfig, Gated, JumpRelu, MatchingPursuit, Relu, TopK
from sae.training.optimiser import unit_rows

_ROWS = 8192
"""Of the sample, from which thresholds are taken."""


def first_weights(
    config: DictionaryConfig,
    x: Float[Tensor, "token d_in"],
    target: Float[Tensor, "token d_out"],
    b_dec: Float[Tensor, "d_out"],
    l0: int,
    seed: int,
) -> Dictionary:
    """A dictionary before its first step; its random numbers do not depend on the device.

    Args:
        config: its sizes.
        x: scaled activations that it will read, on the device where it will lie.
        target: scaled activations that it will write.
        b_dec: the centre of the target.
        l0: latents that fire for a token of the sample.
        seed: of the rows.
    """
    dictionary = Dictionary(config).to(b_dec.device)
    width = config.d_out if config.subtract_b_dec else config.d_in
    with torch.no_grad():
        dictionary.b_dec.copy_(b_dec)
        # Drawn where they stay: a copy that is let go of would leave a hole as large as they are.
        on_host = b_dec.device.type == "cpu" and width == config.d_in
        rows = dictionary.encoder_rows if on_host else torch.empty(config.d_sae, width)
        rows = rows.normal_(generator=generator(seed, "weights")).to(b_dec.device)
        dictionary.encoder_rows.copy_(rows)
        dictionary.W_dec.copy_(rows if config.subtract_b_dec else _read_of(rows, x, target))
        unit_rows(dictionary.encoder_rows)
        unit_rows(dictionary.W_dec)
        if not config.subtract_b_dec:
            dictionary.b_enc.copy_(-(dictionary.encoder_rows @ x.double().mean(0).to(rows)))
        _let_fire(dictionary, x[:_ROWS], l0)
    return dictionary


def _read_of(rows: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """Rows times the cross-covariance: the direction of the target that varies with what a latent reads."""
    covariance = (x - x.mean(0)).T @ (target - target.mean(0)) / len(x)
    return rows @ covariance + 1e-6 * torch.ones_like(target[:1])


def _let_fire(dictionary: Dictionary, x: Float[Tensor, "token d_in"], l0: int) -> None:
    """Sets thresholds or biases so that l0 latents fire for a token."""
    match dictionary.config.activation:
        case TopK() | MatchingPursuit():
            return
        case BatchTopK() | JumpRelu():
            dictionary.threshold.copy_(_level(dictionary, x, l0))
        case Relu() | Gated():
            dictionary.b_enc.sub_(_level(dictionary, x, l0))
        case _:
            assert_never(dictionary.config.activation)
    if isinstance(dictionary.config.activation, Gated):
        dictionary.b_mag.copy_(dictionary.b_enc)


def _level(dictionary: Dictionary, x: Float[Tensor, "token d_in"], l0: int) -> Float[Tensor, ""]:
    """The l0 · n-th largest pre-activation of n tokens; 0 where fewer are positive."""
    rows, bias = dictionary.encoder_rows, dictionary.b_enc
    code = kernels.encode_batchtopk(dictionary.centred(x), rows, bias, l0)
    wanted = len(x) * l0
    return code.values.min() if len(code.values) == wanted else x.new_zeros(())
