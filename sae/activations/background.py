"""Work that the forward pass does not wait for: one thread that takes its orders one after the other.

A queue of `DEPTH` orders bounds the memory. What the thread raises comes out at the next order, or at the end.
"""

import queue
import threading
from collections.abc import Callable
from types import TracebackType

from sae.core.threads import limit_threads

DEPTH = 2
_POLL_SECONDS = 0.1


class Background:
    """A context in which orders are carried out in order; leaving it normally waits for all of them.

    Leaving it by an exception drops what has not begun.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        """
        Args:
            n_threads: that torch takes for an operation there; left out, as many as anywhere.
        """
        self._n_threads = n_threads
        self._orders: queue.Queue[Callable[[], None] | None] = queue.Queue(DEPTH)
        self._failure: BaseException | None = None
        self._dropped = False
        self._thread = threading.Thread(target=self._work, name="background", daemon=True)

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def do(self, order: Callable[[], None]) -> None:
        """Gives an order; waits while `DEPTH` others have not begun.

        Raises:
            BaseException: what an earlier order raised.
        """
        while True:
            self._check()
            try:
                return self._orders.put(order, timeout=_POLL_SECONDS)
            except queue.Full:
                continue

    def wait(self) -> None:
        """Returns when all orders are carried out.

        Raises:
            BaseException: what one of them raised.
        """
        self._orders.join()
        self._check()

    def _work(self) -> None:
        if self._n_threads is not None:
            limit_threads(self._n_threads)
        while (order := self._orders.get()) is not None:
            if self._failure is None and not self._dropped:
                try:
                    order()
                except BaseException as error:  # the caller raises it
                    self._failure = error
            self._orders.task_done()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._dropped = kind is not None
        self._orders.put(None)
        self._thread.join()
        if kind is None:
            self._check()
