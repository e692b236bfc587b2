"""A dictionary in training on a rank that only computes: rank 0 says, writes and saves, the others keep up.

Rank 0 begins or resumes the run and writes a checkpoint of where it is; the others load it, so that all start from the
same bits, whatever their machines.
"""

from typing import Any

from pipelines.training_run import Job, Samples, TrainingRun
from sae.core.errors import WorldError
from sae.parallel import Mesh, device_of
from sae.training import Places, Progress, checkpoint


class Follower:
    """As `TrainingRun`, but leaves the folder alone.

    Raises:
        WorldError: rank 0's checkpoint is not to be seen from here.
    """

    def __init__(self, job: Job) -> None:
        self._config = job.config
        device = device_of(job.config.device)
        found = checkpoint.latest(job.folder / "checkpoints", job.config, device).state
        if found is None:
            raise WorldError(
                f"no checkpoint in {job.folder}: under torchrun the store must be on a disk that all processes share"
            )
        self.state = found

    @property
    def is_done(self) -> bool:
        return self.state.step >= self._config.n_steps

    def after(self, done: Progress) -> None:
        """Rank 0 logs, validates and saves."""

    def interrupt(self) -> None:
        """Rank 0 writes a checkpoint."""

    def failed(self, error: WorldError) -> WorldError:
        """Rank 0 names the last good checkpoint."""
        return error

    def finish(self, n_rows: int) -> dict[str, Any]:
        """Rank 0 has the metrics."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


def begun_on(mesh: Mesh, job: Job, places: Places, samples: Samples) -> TrainingRun | Follower:
    """A run on this rank of the mesh; returns when it stands on all of them."""
    if not mesh.is_first:
        mesh.wait()
        return Follower(job)
    leader = TrainingRun(job, places, samples)
    if mesh.size > 1:
        leader.keep()
    mesh.wait()
    return leader


class Silent:
    """The progress of a rank that does not speak."""

    def update(self, done: int, total: int, unit: str, **values: float) -> None:
        """Rank 0 shows it."""

    def say(self, text: str) -> None:
        """Rank 0 says it."""
