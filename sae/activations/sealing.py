"""Full shards become whole in a thread of their own, while the next one is filled: hashed, synced, given their name.

1. At most one full shard waits for its name, and the next waits for that one. So what a kill can cost is bounded.
2. What goes wrong in the thread comes out where the next shard is full, or at the end.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress


class Sealing:
    """Carries out one order after the other, in a thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "sealing")
        self._last: Future[None] | None = None

    def do(self, order: Callable[[], None]) -> None:
        """Gives an order, once the one before is carried out.

        Raises:
            OSError: the one before could not be.
        """
        self.wait()
        self._last = self._thread.submit(order)

    def wait(self) -> None:
        """Returns when all orders are carried out.

        Raises:
            OSError: the last could not be.
        """
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def close(self) -> None:
        """Ends the thread after the order that it is at; what that could not do is not told."""
        with suppress(OSError):
            self.wait()
        self._thread.shutdown()
