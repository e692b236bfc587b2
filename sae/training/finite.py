"""What must stay finite: the loss, its gradient, and everything that is saved. Who finds it otherwise stops the run.

Nothing moves along a loss or gradient that is not finite, so that the state is then that of the step before.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.core.errors import WorldError
from sae.parallel import Axis


class DivergedError(WorldError):
    """A run has numbers that are not finite; nothing of them was saved."""


def check_loss(terms: Mapping[str, Tensor], x: Float[Tensor, "token d_in"], place: str, data: Axis) -> None:
    """Raises DivergedError where a term of the loss is not finite; every rank does, or none: terms are sums over all.

    Args:
        terms: by name, the total among them.
        x: this rank's share of the batch.
        place: the step, and what it read.
        data: ranks that divide the batch.
    """
    if torch.isfinite(terms["total"]):
        return
    n_bad, n_tokens = data.total(int((~x.isfinite()).any(1).sum())), data.total(len(x))
    cause = f"{n_bad} of its {n_tokens} tokens are not finite" if n_bad else "the weights diverged; lower learning_rate"
    parts = [name for name, value in terms.items() if name != "total" and not torch.isfinite(value)]
    which = f"in {', '.join(parts)}" if parts else "their sum"
    raise DivergedError(f"the loss is {float(terms['total'])} at {place}, {which}: {cause}")


def check_gradient(norm: Float[Tensor, ""], parameters: Mapping[str, nn.Parameter], place: str) -> None:
    """Raises DivergedError where the norm of all gradients is not finite.

    Args:
        norm: of the gradients that the parameters still hold.
        parameters: by name.
        place: the step, and what it read.
    """
    if torch.isfinite(norm):
        return
    found = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    parts = [name for name, gradient in found.items() if not gradient.isfinite().all()]
    which = ", ".join(parts) or "all parameters together"
    raise DivergedError(f"the gradient of {which} is not finite at {place}: lower learning_rate")


def check_saved(tensors: Mapping[str, Tensor], step: int) -> None:
    """Raises DivergedError where a tensor that is to be saved is not finite."""
    parts = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if parts:
        shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
        raise DivergedError(
            f"the weights are not finite after step {step} ({shown}): the run diverged; lower learning_rate"
        )
