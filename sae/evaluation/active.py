"""The non-zero entries of a code as columns: which token, which latent, how strong."""

from typing import NamedTuple, assert_never

import numpy as np
import torch
from jaxtyping import Float, Int

from sae.kernels.code import Code, DenseCode, FixedCode, RaggedCode


class Active(NamedTuple):
    """Columns of equal length, one entry per active latent of a token, ordered by token."""

    tokens: Int[np.ndarray, "entry"]
    latents: Int[np.ndarray, "entry"]
    values: Float[np.ndarray, "entry"]


NOTHING = Active(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))


def active(code: Code) -> Active:
    """The entries of a code over a list of tokens that are above zero."""
    match code:
        case DenseCode(values=values):
            tokens, latents = torch.nonzero(values > 0, as_tuple=True)
            values = values[tokens, latents]
        case FixedCode(values=values, indices=indices):
            tokens, places = torch.nonzero(values > 0, as_tuple=True)
            values, latents = values[tokens, places], indices[tokens, places]
        case RaggedCode(values=values, indices=indices):
            kept = values > 0
            tokens, values, latents = code.tokens[kept], values[kept], indices[kept]
        case _:
            assert_never(code)
    return Active(tokens.cpu().numpy(), latents.cpu().numpy(), values.detach().float().cpu().numpy())
