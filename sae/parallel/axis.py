"""One dimension of the mesh: what its ranks add up, agree on and hand to each other.

1. `Alone` is the axis of one rank: every collective is the identity and costs nothing.
2. What is differentiated is the *sum of the ranks' losses*. So each rank's loss is its share of the whole (the errors
   of its tokens over the number of all tokens), the gradient of `sum` is the sum of the gradients, and a parameter of
   which every rank has a copy adds up its gradients with `sum_`. Parts of a batch one after the other obey the same.
3. Reductions give the same bits on all ranks of the axis: each number is added up in one place and then copied.
4. A rank that has died is noticed by the others at their next collective: it raises WorldError.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as distributed
from jaxtyping import Bool, Shaped
from torch import Tensor
from torch.distributed import ProcessGroup, ReduceOp

from sae.core.errors import WorldError


class Axis(ABC):
    """Ranks that work together; names ending in `_` change their argument, without a gradient."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """This process's number, from 0."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ranks."""

    @abstractmethod
    def sum(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        """Σ over ranks; carries the gradient."""

    @abstractmethod
    def sum_(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        """Σ over ranks, into x."""

    @abstractmethod
    def max_(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        """The largest over ranks, into x."""

    @abstractmethod
    def broadcast_(self, x: Shaped[Tensor, "*n"], source: int = 0) -> Shaped[Tensor, "*n"]:
        """What the rank `source` has, into x."""

    @abstractmethod
    def gather(self, x: Shaped[Tensor, "*n"]) -> list[Shaped[Tensor, "..."]]:
        """What each rank has, in the order of ranks; shapes may differ in the first dimension; without a gradient."""

    @abstractmethod
    def wait(self) -> None:
        """Returns when every rank has come here."""

    def mean(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        """The mean over ranks; carries the gradient."""
        return self.sum(x) / self.size

    def mean_(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        """The mean over ranks, into x."""
        return self.sum_(x).div_(self.size)

    def any(self, flags: Bool[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Which flags are set on any rank."""
        return self.max_(flags.to(torch.uint8)).bool()

    def total(self, number: int) -> int:
        """Σ over ranks of a whole number."""
        return int(self.sum_(torch.tensor(number)))


class Alone(Axis):
    """An axis of one rank."""

    @property
    def rank(self) -> int:
        return 0

    @property
    def size(self) -> int:
        return 1

    def sum(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        return x

    def sum_(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        return x

    def max_(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        return x

    def broadcast_(self, x: Shaped[Tensor, "*n"], source: int = 0) -> Shaped[Tensor, "*n"]:
        return x

    def gather(self, x: Shaped[Tensor, "*n"]) -> list[Shaped[Tensor, "..."]]:
        return [x]

    def wait(self) -> None:
        return

    def mean(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        return x

    def mean_(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        return x

    def any(self, flags: Bool[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        return flags

    def total(self, number: int) -> int:
        return number


def token_mean(x: Shaped[Tensor, "token *d"], axis: Axis) -> Shaped[Tensor, "*d"]:
    """The mean over the tokens of all ranks, which may have different numbers of them; carries the gradient."""
    return axis.sum(x.sum(0)) / axis.total(len(x))


class Ranks(Axis):
    """An axis of several processes.

    Args:
        group: torch's group of them.
        device: where numbers that live in no tensor are put to be added up: the CPU for gloo, a GPU for nccl.
    """

    def __init__(self, group: ProcessGroup, device: torch.device) -> None:
        self._group, self._device = group, device

    @property
    def rank(self) -> int:
        return self._group.rank()

    @property
    def size(self) -> int:
        return self._group.size()

    def sum(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        return _Sum.apply(x, self)  # type: ignore[return-value]

    def sum_(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        return self._reduced(x, ReduceOp.SUM)

    def max_(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        return self._reduced(x, ReduceOp.MAX)

    def broadcast_(self, x: Shaped[Tensor, "*n"], source: int = 0) -> Shaped[Tensor, "*n"]:
        packed = x.detach().contiguous()
        with _heard():
            distributed.broadcast(packed, group=self._group, group_src=source)
        return _into(x, packed)

    def gather(self, x: Shaped[Tensor, "*n"]) -> list[Shaped[Tensor, "..."]]:
        lengths = torch.zeros(self.size, dtype=torch.int64, device=x.device)
        lengths[self.rank] = len(x)
        everywhere = self.sum_(lengths).tolist()
        # gloo gathers equal shapes only, so what is shorter is padded.
        padded = x.new_zeros(max(everywhere), *x.shape[1:])
        padded[: len(x)] = x.detach()
        parts = [torch.empty_like(padded) for _ in everywhere]
        with _heard():
            distributed.all_gather(parts, padded, group=self._group)
        return [part[:length] for part, length in zip(parts, everywhere, strict=True)]

    def wait(self) -> None:
        self.total(0)

    def total(self, number: int) -> int:
        return int(self.sum_(torch.tensor(number, device=self._device)))

    def _reduced(self, x: Tensor, how: Any) -> Tensor:
        packed = x.detach().contiguous()
        with _heard():
            distributed.all_reduce(packed, how, group=self._group)
        return _into(x, packed)


@contextmanager
def _heard() -> Iterator[None]:
    """Raises WorldError where the other ranks are not heard any more: one has died, or does something else."""
    try:
        yield
    except RuntimeError as error:  # all that gloo and nccl raise, torch's DistError included
        first = str(error).splitlines()[0][:200]
        raise WorldError(f"another process of the run has ended or does not answer ({first})") from error


def _into(x: Tensor, packed: Tensor) -> Tensor:
    """Collectives want contiguous memory: copies the result back where that is not x's own."""
    if packed.data_ptr() != x.data_ptr():
        with torch.no_grad():
            x.copy_(packed)
    return x


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Ranks) -> Tensor:  # type: ignore[override]
        ctx.axis = axis
        return axis.sum_(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        # Not in place: autograd may hand the same gradient to others.
        return ctx.axis.sum_(grad.clone(memory_format=torch.contiguous_format)), None
