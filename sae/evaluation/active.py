"""The non-zero entries of a code as columns: which token, which latent, how strong."""

from typing import NamedTuple, assert_never

import numpy as np
import torch
from jaxtyping import Float, Int

from sae.kernels.code import Code, DenseCode, FixedCode


class Active(NamedTuple):
    """Columns of equal length, one entry per active latent of a token, ordered by token."""

    tokens: Int[np.ndarray, "entry"]
    latents: Int[np.ndarray, "entry"]
    values: Float[np.ndarray, "entry"]


NOTHING = Active(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))


def active(code: Code) -> Active:
    """The entries of a code over a list of tokens that are above zero."""
    tokens, places = torch.nonzero(code.values > 0, as_tuple=True)
    values = code.values[tokens, places].detach().float()
    match code:
        case DenseCode():
            latents = places
        case FixedCode(indices=indices):
            latents = indices[tokens, places]
        case _:
            assert_never(code)
    return Active(tokens.cpu().numpy(), latents.cpu().numpy(), values.cpu().numpy())
