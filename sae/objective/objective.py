"""The loss of a dictionary: reconstruction error plus a penalty, a gate's and an auxiliary term.

    L = mean over tokens and dimensions of (y − ŷ)² + λ · penalty + gate + auxiliary

The input is scaled so that its centred mean square norm is d_in; the first term is then close to the fraction of
variance unexplained, whatever the width, and the other terms' coefficients mean the same at every site.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sae import kernels
from sae.core.config import Strict
from sae.dictionary import Dictionary, TopK
from sae.dictionary.linear import Encoded
from sae.kernels import Code
from sae.objective.auxiliary import Auxiliary, Dead, NoAuxiliary, auxiliary_loss
from sae.objective.gate import Gate, NoGate, gate_loss
from sae.objective.mean_square import mean_square
from sae.objective.reconstruction import MeanSquare, MultiTopK, Reconstruction, narrowed, reconstructed
from sae.objective.sparsity import NoPenalty, Penalty, StepL0, TargetL0, penalty
from sae.parallel import Alone, Axis

ALONE = Alone()


class Situation(NamedTuple):
    """What a loss needs to know of the run beside the batch."""

    dead: Dead
    """Latents that count as dead."""
    strength: float = 0.0
    """λ, the penalty's weight."""
    step: int = 0
    data: Axis = ALONE
    """Ranks that divide the batch: what couples its tokens is summed over them."""
    selection: torch.dtype | None = None
    """Precision in which latents are chosen; left out: that of the batch, or autocast's."""


class Loss(NamedTuple):
    """A loss and what it was computed from."""

    total: Float[Tensor, ""]
    """What is minimised."""
    reconstruction: Float[Tensor, ""]
    """Mean squared error per dimension of the whole code, in scaled units."""
    auxiliary: Float[Tensor, ""]
    """The weighted auxiliary term."""
    penalty: Float[Tensor, ""]
    """The weighted penalty."""
    gate: Float[Tensor, ""]
    """The gate's own reconstruction error."""
    code: Code
    """The code of the input."""
    reconstructed: Float[Tensor, "token d_out"]
    """Its decoding."""


class Objective(Strict):
    """The terms of the loss."""

    reconstruction: Reconstruction = MeanSquare()
    """How far what is decoded is from the target."""
    penalty: Penalty = NoPenalty()
    """What keeps codes sparse."""
    gate: Gate = NoGate()
    """What teaches a gate."""
    auxiliary: Auxiliary = NoAuxiliary()
    """What dead latents learn from."""

    def loss(
        self,
        dictionary: Dictionary,
        x: Float[Tensor, "token d_in"],
        target: Float[Tensor, "token d_out"],
        situation: Situation,
    ) -> Loss:
        """The loss on a batch of scaled activations.

        Args:
            dictionary: what is trained.
            x: activations that it reads, in scaled units.
            target: those that it should write: x itself but for a transcoder.
            situation: dead latents, strength, step, and the ranks that have the rest of the batch.
        """
        encoded = self._encoded(dictionary, x, situation.selection)
        y, error = reconstructed(self.reconstruction, dictionary, encoded, x, target, situation.step)
        weighted = penalty(self.penalty, dictionary, encoded, situation.strength, situation.data)
        auxiliary = auxiliary_loss(self.auxiliary, dictionary, x, target, y.detach(), situation.dead, situation.data)
        gate = gate_loss(self.gate, dictionary, encoded, target)
        total = error + weighted + gate + auxiliary
        code = narrowed(dictionary, encoded.code) if isinstance(self.reconstruction, MultiTopK) else encoded.code
        alone = isinstance(self.reconstruction, MeanSquare)
        whole = error.detach() if alone else mean_square(target.detach(), y.detach())
        return Loss(total, whole, auxiliary, weighted, gate, code, y)

    @property
    def _takes_marks(self) -> bool:
        """Whether nothing but the whole reconstruction and the number of steps reads a JumpReLU's code."""
        return isinstance(self.reconstruction, MeanSquare) and isinstance(self.penalty, NoPenalty | StepL0 | TargetL0)

    def _encoded(
        self, dictionary: Dictionary, x: Float[Tensor, "token d_in"], selection: torch.dtype | None
    ) -> Encoded:
        if not isinstance(self.reconstruction, MultiTopK):
            return dictionary.encoded(x, selection, marks=self._takes_marks)
        activation = dictionary.config.activation
        assert isinstance(activation, TopK), "a wider code is TopK's"
        k = min(activation.k * self.reconstruction.factor, dictionary.d_sae)
        rows, bias = dictionary.encoder_rows, dictionary.b_enc
        wide = kernels.encode_topk(dictionary.centred(x), rows, bias, k, selection=selection)
        return Encoded(wide, wide)
