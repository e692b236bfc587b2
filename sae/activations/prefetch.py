"""Batches made before they are asked for, by one background thread, into pinned memory where CUDA is there.

At most `n_ahead` batches wait beside the one being used. The numbers are those of the batches without it: each
follows from its step alone. A step that is not the expected one drops what waits and goes on from there.

A pinned batch may be copied to a device without waiting (`non_blocking`): torch gives its memory to another batch only
when the copies that were asked for are done.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32
from torch import Tensor


@runtime_checkable
class Filling(Protocol):
    """Batches that are written where they are wanted: `ShuffledBatches`, `ColumnBatches`."""

    @property
    def n_in_share(self) -> int: ...

    @property
    def d(self) -> int: ...

    @property
    def n_bytes(self) -> int: ...

    def fill(self, step: int, out: Float32[Tensor, "batch d"]) -> Float32[Tensor, "batch d"]: ...

    def close(self) -> None: ...


class Prefetched:
    """The batches of `batches`, which belong to the thread until `close`."""

    def __init__(self, batches: Filling, n_ahead: int = 2, pinned: bool | None = None) -> None:
        """Starts nothing yet: the first call of `batch` says from where.

        Args:
            batches: what is read; where their reader reads ahead, the next buffer is read while this one is used.
            n_ahead: batches that may wait, at least 1.
            pinned: whether in page-locked memory; left out: where CUDA is there.
        """
        assert n_ahead >= 1
        self._batches, self._n_ahead = batches, n_ahead
        self._pinned = torch.cuda.is_available() if pinned is None else pinned
        self._thread = ThreadPoolExecutor(1, "next batches")
        self._waiting: deque[Future[Tensor]] = deque()
        self._step = 0
        """Step of the first that waits."""

    @property
    def n_bytes(self) -> int:
        """Most memory in use, that of the batch given out included."""
        batch = self._batches.n_in_share * self._batches.d * torch.float32.itemsize
        return self._batches.n_bytes + (self._n_ahead + 1) * batch

    def batch(self, step: int) -> Float32[Tensor, "batch d"]:
        """The rows of step `step`.

        Raises:
            WorldError: what reading them raised in the thread; asking again tries again.
        """
        if step != self._step:
            self._drop()
            self._step = step
        while len(self._waiting) < self._n_ahead:
            self._waiting.append(self._thread.submit(self._made, step + len(self._waiting)))
        made = self._waiting.popleft()
        self._step = step + 1
        x = made.result()
        self._waiting.append(self._thread.submit(self._made, step + self._n_ahead))
        return x

    def _made(self, step: int) -> Tensor:
        x = torch.empty(self._batches.n_in_share, self._batches.d, pin_memory=self._pinned)
        self._batches.fill(step, x)
        return x

    def _drop(self) -> None:
        for waiting in self._waiting:
            waiting.cancel()
        self._waiting.clear()

    def close(self) -> None:
        """Ends the thread, after the batch it is at, and closes the batches."""
        self._drop()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._batches.close()

    def __enter__(self) -> "Prefetched":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
