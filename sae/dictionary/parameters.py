"""What an activation owns besides the linear map: thresholds and gates, and how all of it is named in a file.

jumprelu    threshold [d_sae]                    learnt; raw and in float32, so that small steps are not lost
gated       r_mag, b_mag [d_sae]                 learnt
batchtopk   threshold, one number                set by training, kept as a buffer
"""

from typing import assert_never

import torch
from torch import Tensor, nn

from sae.dictionary.config import Activation, BatchTopK, DictionaryConfig, Gated, JumpRelu, MatchingPursuit, Relu, TopK


def learnt(activation: Activation, d_sae: int) -> dict[str, Tensor]:
    """The activation's own parameters, at zero."""
    match activation:
        case JumpRelu():
            return {"threshold": torch.zeros(d_sae)}
        case Gated():
            return {"r_mag": torch.zeros(d_sae), "b_mag": torch.zeros(d_sae)}
        case TopK() | BatchTopK() | Relu() | MatchingPursuit():
            return {}
        case _:
            assert_never(activation)


def kept(activation: Activation) -> dict[str, Tensor]:
    """What training sets without a gradient."""
    return {"threshold": torch.zeros(())} if isinstance(activation, BatchTopK) else {}


def add_to(module: nn.Module, config: DictionaryConfig) -> None:
    """Registers every parameter and buffer of a dictionary, all zero.

    In matching pursuit the encoder is the decoder: one parameter under two names.
    """
    module.W_dec = nn.Parameter(torch.zeros(config.d_sae, config.d_out))
    tied = isinstance(config.activation, MatchingPursuit)
    module.encoder_rows = module.W_dec if tied else nn.Parameter(torch.zeros(config.d_sae, config.d_in))
    module.b_enc = nn.Parameter(torch.zeros(config.d_sae), requires_grad=not tied)
    module.b_dec = nn.Parameter(torch.zeros(config.d_out))
    if config.skip:
        module.W_skip = nn.Parameter(torch.zeros(config.d_out, config.d_in))
    for name, value in learnt(config.activation, config.d_sae).items():
        setattr(module, name, nn.Parameter(value))
    for name, value in kept(config.activation).items():
        module.register_buffer(name, value)


def named_in_file(name: str) -> str:
    """The field's name for one of `state_dict`'s; `W_enc` is saved as [d_sae, d_in], contiguous by latent."""
    return "W_enc" if name == "encoder_rows" else name
