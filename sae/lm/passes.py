"""What the contexts of one thread know of one another: the readings open on a model, and where its prompts end.

All of it belongs to a thread. A pass in another thread, even through the same model, sees nothing of it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from jaxtyping import Int
from torch import Tensor, nn


class Stop(BaseException):
    """Ends a forward pass. Not an Exception, lest code on the way catch it."""


@dataclass(eq=False)
class OpenReading:
    """One open `reading`: what it wants of a pass and what it has seen of it."""

    wanted: frozenset[str]
    stop: bool
    seen: set[str] = field(default_factory=set)

    @property
    def done(self) -> bool:
        return self.stop and self.seen >= self.wanted


class _Thread(threading.local):
    def __init__(self) -> None:
        self.readings: WeakKeyDictionary[nn.Module, list[OpenReading]] = WeakKeyDictionary()
        self.prompts: WeakKeyDictionary[nn.Module, Int[Tensor, "batch"]] = WeakKeyDictionary()


_this_thread = _Thread()


@contextmanager
def open_reading(module: nn.Module, reading: OpenReading) -> Iterator[list[OpenReading]]:
    """All readings that this thread has open on the model, this one among them while the context lasts."""
    readings = _this_thread.readings.setdefault(module, [])
    readings.append(reading)
    try:
        yield readings
    finally:
        readings.remove(reading)


@contextmanager
def prompts_end(module: nn.Module, lengths: Int[Tensor, "batch"]) -> Iterator[None]:
    """Tells the contexts of this thread how many tokens of each text are its prompt."""
    _this_thread.prompts[module] = lengths
    try:
        yield
    finally:
        del _this_thread.prompts[module]


def prompt_lengths(module: nn.Module) -> Int[Tensor, "batch"] | None:
    """As told by `prompts_end`, None outside it."""
    return _this_thread.prompts.get(module)
