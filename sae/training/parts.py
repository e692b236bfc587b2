"""A batch in parts: micro-batches one after the other, and shares of it on other ranks. Both are one sum.

    L = Σ over parts p of (n_p / n) · L_p

1. L_p is the loss of a part's n_p tokens, L what is minimised. Where L_p is a mean over tokens, L is that of the whole
   batch, and so is its gradient, which is summed over micro-batches by `backward` and over ranks before it is clipped.
2. Terms that couple the tokens of a batch see all ranks, but one micro-batch: the residual's variance in AuxK, the
   count in jumprelu's quadratic penalty.
3. BatchTopK selects within each part, of a rank and of a micro-batch: every part has k latents a token on average. Its
   threshold follows the mean of the parts' smallest selected values.
4. What counts tokens (dead latents, L0, the controller) sees the whole batch.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from sae.core.errors import InputError
from sae.dictionary import BatchTopK, Dictionary
from sae.kernels import Code
from sae.objective import Loss, Objective, Situation
from sae.training.state import Batch


class Terms(NamedTuple):
    """Numbers of a batch: means over its tokens, weighted as they are minimised."""

    total: Float64[Tensor, ""]
    """What is minimised."""
    reconstruction: Float64[Tensor, ""]
    """Mean squared error per dimension, in scaled units."""
    auxiliary: Float64[Tensor, ""]
    penalty: Float64[Tensor, ""]
    gate: Float64[Tensor, ""]
    term: Float64[Tensor, ""]
    """The recipe's own, that does not come from the batch."""
    l0: Float64[Tensor, ""]
    smallest: Float64[Tensor, ""]
    """Sum over parts of the smallest selected value, where there is one and the activation selects over a batch."""
    n_smallest: Float64[Tensor, ""]
    """Number of such parts."""

    def by_name(self) -> dict[str, Tensor]:
        """The terms of the loss, and their total."""
        return {
            "total": self.total,
            "reconstruction": self.reconstruction,
            "auxk": self.auxiliary,
            "penalty": self.penalty,
            "gate": self.gate,
            "end_to_end": self.term,
        }


class Passed(NamedTuple):
    """What forward and backward passes over a batch gave; its gradient is in the parameters."""

    terms: Terms
    fired: Bool[Tensor, "d_sae"]
    """Latents that are active at any token."""
    reconstructed: Float[Tensor, "token d_out"]
    """Of this rank's tokens, in scaled units."""


class Passes(NamedTuple):
    """How a batch is gone through."""

    objective: Objective
    accumulate: int
    """Micro-batches that a rank divides its share into."""
    precision: torch.dtype


def backward(
    dictionary: Dictionary, batch: Batch, term: Float[Tensor, ""], situation: Situation, passes: Passes
) -> Passed:
    """Passes over all parts; adds the whole gradient to the parameters, on every rank.

    Args:
        dictionary: what is trained.
        batch: this rank's share.
        term: one more term of the loss, the same on every rank.
        situation: of the run; its `data` are the ranks that divide the batch.
        passes: how.

    Raises:
        InputError: fewer tokens than micro-batches.
    """
    if len(batch.x) < passes.accumulate:
        raise InputError(f"train.accumulate {passes.accumulate}: there are only {len(batch.x)} tokens to divide")
    data, n_tokens = situation.data, situation.data.total(len(batch.x))
    extra = term / data.size
    numbers, fired, reconstructed = [], torch.zeros_like(situation.dead.marks), []
    for x, target in zip(*(part.tensor_split(passes.accumulate) for part in batch), strict=True):
        with torch.autocast(x.device.type, passes.precision, enabled=passes.precision != torch.float32):
            loss = passes.objective.loss(dictionary, x, target, situation)
        (loss.total * (len(x) / n_tokens) + extra).backward()
        numbers.append(_numbers(dictionary, loss, extra, len(x) / n_tokens))
        fired |= loss.code.fired()
        reconstructed.append(loss.reconstructed.detach())
        extra = torch.zeros_like(extra)
    for parameter in dictionary.parameters():
        if parameter.grad is not None:
            data.sum_(parameter.grad)
    terms = Terms(*data.sum_(torch.stack(numbers).sum(0)))
    return Passed(terms, data.any(fired), reconstructed[0] if len(reconstructed) == 1 else torch.cat(reconstructed))


@torch.no_grad()
def _numbers(dictionary: Dictionary, loss: Loss, extra: Tensor, share: float) -> Float64[Tensor, "number"]:
    """One part's contribution to `Terms`."""
    means = torch.stack([loss.total, loss.reconstruction, loss.auxiliary, loss.penalty, loss.gate])
    total, *others = (share * means.double()).unbind()
    l0 = share * loss.code.l0().double().mean()
    return torch.stack([total + extra, *others, extra.double(), l0, *_smallest(dictionary, loss.code)])


def _smallest(dictionary: Dictionary, code: Code) -> Float64[Tensor, "2"]:
    """The smallest value that BatchTopK selected, and 1; zeros where it selected none, and for other activations."""
    if not isinstance(dictionary.config.activation, BatchTopK):
        return torch.zeros(2, dtype=torch.float64, device=code.values.device)
    selected = code.values.detach().double().flatten()
    none = selected.new_full((1,), torch.inf)
    smallest = torch.cat([selected.where(selected > 0, none), none]).amin()
    has = smallest.isfinite()
    return torch.stack([torch.where(has, smallest, 0), has.double()])
