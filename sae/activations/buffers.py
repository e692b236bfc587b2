"""The buffers of an order, read from the shards into memory that is used again; rows lie there as they are given out.

Only the buffer in use is held, and with `read_ahead` a thread reads the next one into a second memory meanwhile.
Fresh memory for each buffer would cost more in page faults than reading.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from torch import Tensor

from sae.activations.order import RowOrder
from sae.kernels.aligned import aligned_empty

Read = Callable[[np.ndarray, Int[np.ndarray, "run 2"], Int[np.ndarray, "row"]], Shaped[Tensor, "row width"]]
"""Reads runs of rows into memory, which the result shares; the last argument says where each goes."""


class _Reading(NamedTuple):
    key: tuple[int, int]
    memory: int
    rows: Future[Tensor]


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

    def get(self, epoch: int, buffer: int) -> Shaped[Tensor, "row width"]:
        """The rows of a buffer in their order; those of the one given before must not be used any more.

        Raises:
            WorldError: a shard is cut or damaged; the next call tries again.
        """
        key = (epoch, buffer)
        if self._now is None or self._now.key != key:
            ready, self._now, self._next = self._next, None, None
            if ready is not None:
                ready.rows.exception()  # its memory is free when it has ended
            self._now = ready if ready is not None and ready.key == key else self._start(key, 0)
        try:
            rows = self._now.rows.result()
        except BaseException:
            self._now = None
            raise
        if self._thread is not None and self._next is None:
            self._next = self._start(self._order.after(epoch, buffer), 1 - self._now.memory)
        return rows

    def _start(self, key: tuple[int, int], memory: int) -> _Reading:
        if self._thread is not None:
            return _Reading(key, memory, self._thread.submit(self._load, key, memory))
        done: Future[Tensor] = Future()
        done.set_result(self._load(key, memory))
        return _Reading(key, memory, done)

    def _load(self, key: tuple[int, int], memory: int) -> Tensor:
        buffer = self._order.buffer(*key)
        places = buffer.places
        return self._read(self._memories[memory][: len(places)], buffer.runs, places)

    def close(self) -> None:
        """Waits for a read under way and gives the memory back; the buffers cannot be used any more."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._memories, self._now, self._next = [], None, None
