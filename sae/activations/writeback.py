"""Asks the system to write a file's pages while it still grows, so that little is left to wait for when it is synced.

Without that a disk is idle until the first `fsync`, and then everything waits for it.
"""

import ctypes
import functools
from collections.abc import Callable

_WRITE = 2
"""SYNC_FILE_RANGE_WRITE: begin to write all pages that are not being written yet; do not wait."""


def begin_writing(descriptor: int) -> None:
    """Asks the system to write what it holds of a file, without waiting; nothing where it cannot be asked (Linux can).

    It is advice: what it says of an error comes again when the file is synced.
    """
    ask = _sync_file_range()
    if ask is not None:
        ask(descriptor, 0, 0, _WRITE)


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    try:
        ask = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError):
        return None
    ask.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return ask
