"""SIGINT and SIGTERM held back to a moment of the stage's choosing.

A KeyboardInterrupt between two bytecodes of an optimiser's step would leave a state that is neither the old nor the
new one; a checkpoint of it could never resume to the same bits.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Whether the user asked to stop; asking twice stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def note(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def held_back() -> Iterator[Interrupts]:
    """While the body runs, signals are noted instead of raised; the body looks at `asked` between its steps."""
    interrupts = Interrupts()
    before = {number: signal.signal(number, interrupts.note) for number in _SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
