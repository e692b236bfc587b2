"""Several runs on one pass over the activations, each as if it were alone.

1. Batches are a pure function of the step, so runs that share their order can share each batch: it is read once.
2. The run with the fewest steps always moves next. So runs that resume from different steps catch up with each other
   first, and then stay within one step.
3. Nothing else is shared: states, random streams and optimisers are each run's own, and every run ends with the bits
   that it has alone.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from sae.parallel import Mesh
from sae.training.config import TrainConfig
from sae.training.finite import DivergedError
from sae.training.loop import NO_TERM, Batches, Progress, loop
from sae.training.state import State
from sae.training.step import ALONE, Term


class OnePass:
    """Batches of which the last one read is kept, for the next run that asks for the same step."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._step = -1
        self._kept: Float[Tensor, "token d"] | None = None
        self.n_read = 0
        """Batches read so far."""

    def batch(self, step: int) -> Float[Tensor, "token d"]:
        """The batch of a step; whoever gets it must not change it."""
        if self._kept is None or step != self._step:
            self._kept, self._step = None, -1  # its memory is free before the next one is read
            self._kept, self._step = self._batches.batch(step), step
            self.n_read += 1
        return self._kept


class Run(NamedTuple):
    """A state and how it is trained."""

    state: State
    config: TrainConfig
    term: Term = NO_TERM
    """One more term of its loss."""


class Moved(NamedTuple):
    """A run that made a step."""

    number: int
    progress: Progress


class Failed(NamedTuple):
    """A run that stopped; its state is as it was before the step."""

    number: int
    error: DivergedError


def side_by_side(runs: Sequence[Run], batches: Batches, mesh: Mesh = ALONE) -> Iterator[Moved | Failed]:
    """Trains every run to its end, in place; a run whose loss is not finite stops alone.

    Raises:
        WorldError: a batch cannot be read, or another process has ended.
    """
    shared = OnePass(batches)
    loops = [loop(run.state, shared, run.config, run.term, mesh) for run in runs]
    going = set(range(len(runs)))
    while going:
        number = min(going, key=lambda i: (runs[i].state.step, i))
        state, config, _ = runs[number]
        if state.step >= config.n_steps:
            going.remove(number)
            continue
        shared.batch(state.step)  # what cannot be read stops all, what diverges only itself
        try:
            progress = next(loops[number])
        except DivergedError as error:
            going.remove(number)
            yield Failed(number, error)
            continue
        yield Moved(number, progress)
