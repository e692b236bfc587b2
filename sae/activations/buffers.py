"""The buffers of an order, read from the shards into memory that is used again.

Only the buffer in use is held, and with `read_ahead` a thread reads the next one into a second memory meanwhile.
Fresh memory for each buffer would cost more in page faults than reading.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from sae.activations.order import RowOrder
from sae.kernels.aligned import aligned_empty

Read = Callable[[np.ndarray, Int[np.ndarray, "run 2"]], Shaped[Tensor, "row width"]]
"""Reads runs of rows into memory, which the result shares."""


class Held(NamedTuple):
    """A buffer in memory."""

    x: Shaped[Tensor, "row width"]
    permutation: Int[Tensor, "row"]
    """The i-th row given out is row `permutation[i]` of `x`."""


class _Reading(NamedTuple):
    key: tuple[int, int]
    memory: int
    held: Future[Held]


class Buffers:
    """Buffers by (epoch, number)."""

    def __init__(self, order: RowOrder, width: int, stored: np.dtype, read: Read, read_ahead: bool) -> None:
        self._order, self._read = order, read
        self._memories = [aligned_empty((order.most_rows, width), stored) for _ in range(2 if read_ahead else 1)]
        self._now: _Reading | None = None
        self._next: _Reading | None = None
        self._thread = ThreadPoolExecutor(1, "next buffer") if read_ahead else None

    @property
    def n_bytes(self) -> int:
        """Memory that is held."""
        return sum(memory.nbytes for memory in self._memories)

    def get(self, epoch: int, buffer: int) -> Held:
        """A buffer; the one given before must not be used any more.

        Raises:
            WorldError: a shard is cut or damaged; the next call tries again.
        """
        key = (epoch, buffer)
        if self._now is None or self._now.key != key:
            ready, self._now, self._next = self._next, None, None
            if ready is not None:
                ready.held.exception()  # its memory is free when it has ended
            self._now = ready if ready is not None and ready.key == key else self._start(key, 0)
        try:
            held = self._now.held.result()
        except BaseException:
            self._now = None
            raise
        if self._thread is not None and self._next is None:
            self._next = self._start(self._order.after(epoch, buffer), 1 - self._now.memory)
        return held

    def _start(self, key: tuple[int, int], memory: int) -> _Reading:
        if self._thread is not None:
            return _Reading(key, memory, self._thread.submit(self._load, key, memory))
        done: Future[Held] = Future()
        done.set_result(self._load(key, memory))
        return _Reading(key, memory, done)

    def _load(self, key: tuple[int, int], memory: int) -> Held:
        runs, permutation = self._order.buffer(*key)
        x = self._read(self._memories[memory][: len(permutation)], runs)
        return Held(x, torch.from_numpy(permutation))

    def close(self) -> None:
        """Waits for a read under way and gives the memory back; the buffers cannot be used any more."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._memories, self._now, self._next = [], None, None
