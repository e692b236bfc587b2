"""The loss of a dictionary: reconstruction error plus an auxiliary term.

    L = mean over tokens and dimensions of (x − y)² + auxiliary

The input is scaled so that its centred mean square norm is d_in; the first term is then close to the fraction of
variance unexplained, whatever the width, and the auxiliary's coefficient means the same at every site.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from sae.core.config import Strict
from sae.dictionary import Dictionary
from sae.kernels import Code
from sae.objective.auxiliary import Auxiliary, NoAuxiliary, auxiliary_loss


class Loss(NamedTuple):
    """A loss and what it was computed from."""

    total: Float[Tensor, ""]
    """What is minimised."""
    reconstruction: Float[Tensor, ""]
    """Mean squared error per dimension, in the units of the input."""
    auxiliary: Float[Tensor, ""]
    """The weighted auxiliary term."""
    code: Code
    """The code of the input."""
    reconstructed: Float[Tensor, "token d_out"]
    """Its decoding."""


class Objective(Strict):
    """The terms of the loss."""

    auxiliary: Auxiliary = NoAuxiliary()
    """What dead latents learn from."""

    def loss(self, dictionary: Dictionary, x: Float[Tensor, "token d_in"], dead: Bool[Tensor, "d_sae"]) -> Loss:
        """The loss on a batch of scaled activations.

        Args:
            dictionary: what is trained.
            x: activations in scaled units.
            dead: latents that count as dead.
        """
        code = dictionary.encode(x)
        y = dictionary.decode(code)
        residual = x - y
        reconstruction = residual.square().mean()
        auxiliary = auxiliary_loss(self.auxiliary, dictionary, x, residual, dead)
        return Loss(reconstruction + auxiliary, reconstruction, auxiliary, code, y)
