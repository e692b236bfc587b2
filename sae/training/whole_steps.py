"""Steps that are done whole or not at all, where a user may press Ctrl-C at any moment.

A KeyboardInterrupt within a step would leave weights that have moved beside a counter that has not: whoever goes on
would do the step twice. In the main thread of Python, where it is raised by the usual handler, it waits for the end of
the step.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Asked:
    """Whether the user asked to stop."""

    def __init__(self) -> None:
        self.yes = False

    def note(self, signum: int, frame: FrameType | None) -> None:
        self.yes = True


@contextmanager
def whole_step() -> Iterator[Asked]:
    """While the body runs, Ctrl-C is noted and not raised; other handlers than Python's own stay as they are."""
    asked = Asked()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield asked
        return
    signal.signal(signal.SIGINT, asked.note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
