"""The gate's own reconstruction: what fires must be able to explain the target, or only the L1 would teach the gate.

    mean (y − (ReLU(h) W̄_dec + b̄_dec))²        h the gate's pre-activations, W̄ and b̄ without gradient

Rajamanoharan et al. 2024, arXiv:2404.16014, its auxiliary loss; weight 1 as there.
"""

from typing import Annotated, Literal, assert_never

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae import kernels
from sae.core.config import Strict
from sae.dictionary import Dictionary
from sae.dictionary.linear import Encoded
from sae.objective.mean_square import mean_square


class NoGate(Strict):
    """The activation has no gate."""

    kind: Literal["none"] = "none"


class GateReconstruction(Strict):
    """The positive pre-activations of the gate reconstruct the target through the frozen decoder."""

    kind: Literal["reconstruction"] = "reconstruction"


Gate = Annotated[NoGate | GateReconstruction, Field(discriminator="kind")]


def gate_loss(
    gate: NoGate | GateReconstruction,
    dictionary: Dictionary,
    encoded: Encoded,
    target: Float[Tensor, "token d_out"],
) -> Float[Tensor, ""]:
    """The term; zero where there is no gate."""
    match gate:
        case NoGate():
            return target.new_zeros(())
        case GateReconstruction():
            y = kernels.sparse_decode(encoded.gate, dictionary.W_dec.detach()) + dictionary.b_dec.detach()
            return mean_square(target, y)
        case _:
            assert_never(gate)
