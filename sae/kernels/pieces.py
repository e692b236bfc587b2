"""Many pieces of a file into memory, those that are not in the page cache kept under way together.

1. A piece that is in memory is copied at once. Another is announced to the system, and read when `AHEAD_BYTES` more
   were announced: short requests one after the other would leave a disk idle in between.
2. In C++ where it can be built: one call for all pieces, during which other threads of Python run. Else in Python, with
   the same bytes.
"""

import ctypes
import errno
import functools
import os
from collections import deque
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from sae.kernels import build
from sae.kernels.choice import VARIABLE

AHEAD_BYTES = 16 << 20
"""Bytes that are announced and not read yet: requests for a disk to work on, few enough to stay in the page cache."""
_MOST_THREADS = 4
"""Where the machine has as many processors; more do not copy faster."""
_SHORT_BYTES = 1 << 18
"""Pieces shorter than this on average lie apart: what the system would read beyond them is not wanted."""
_NOWAIT = int(getattr(os, "RWF_NOWAIT", 0))
"""Linux: read what is in memory, do not wait for a disk."""


def read_pieces(
    descriptor: int,
    places: Int64[np.ndarray, "piece"],
    ends: Int64[np.ndarray, "piece"],
    out: UInt8[np.ndarray, "byte"],
) -> None:
    """Reads pieces of a file into `out`, one after the other.

    Args:
        descriptor: of the file.
        places: where in the file each begins.
        ends: where in `out` each ends.
        out: as long as all pieces.

    Raises:
        EOFError: the file ends before a piece does.
        OSError: it cannot be read.
    """
    if len(ends) == 0:
        return
    assert int(ends[-1]) == len(out)
    if len(out) < _SHORT_BYTES * len(ends):
        _read_nothing_beyond(descriptor)
    loop = _loop()
    if loop is None:
        _read_in_python(descriptor, places.tolist(), ends.tolist(), out.data)
        return
    places, ends = np.ascontiguousarray(places), np.ascontiguousarray(ends)
    n, n_threads = len(ends), min(_MOST_THREADS, _n_processors())
    failed = loop(descriptor, places.ctypes.data, ends.ctypes.data, n, out.ctypes.data, AHEAD_BYTES, n_threads)
    if failed < 0:
        raise EOFError
    if failed:
        raise OSError(failed, os.strerror(failed))


def _n_processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_nothing_beyond(descriptor: int) -> None:
    if hasattr(os, "posix_fadvise"):  # macOS has none
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)


@functools.cache
def _declared() -> "ctypes._NamedFuncPointer | None":
    library = build.library()
    if library is None:
        return None
    pointer, count, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    loop = library.read_pieces
    loop.argtypes, loop.restype = (number, pointer, pointer, count, pointer, count, number), number
    return loop


def _loop() -> "ctypes._NamedFuncPointer | None":
    return None if os.environ.get(VARIABLE) in ("reference", "sparse") else _declared()


class _Late(NamedTuple):
    """A piece that was not in memory when it was asked for."""

    at: int
    end: int
    place: int


def _read_in_python(descriptor: int, places: list[int], ends: list[int], target: memoryview) -> None:
    late: deque[_Late] = deque()
    n_late = at = 0
    for place, end in zip(places, ends, strict=True):
        n_bytes = _read_cached(descriptor, target[at:end], place)
        if n_bytes < end - at:
            late.append(_Late(at + n_bytes, end, place + n_bytes))
            _announce(descriptor, place + n_bytes, end - at - n_bytes)
            n_late += end - at - n_bytes
        at = end
        while n_late > AHEAD_BYTES:
            n_late -= _read_late(descriptor, target, late.popleft())
    for piece in late:
        _read_late(descriptor, target, piece)


def _read_cached(descriptor: int, target: memoryview, place: int) -> int:
    if not _NOWAIT:
        return 0
    try:
        return os.preadv(descriptor, [target], place, _NOWAIT)
    except BlockingIOError:  # nothing of it is in memory
        return 0
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # the system cannot tell
            raise
        return 0


def _read_late(descriptor: int, target: memoryview, piece: _Late) -> int:
    at, end, place = piece
    while at < end:
        n_bytes = os.preadv(descriptor, [target[at:end]], place)
        if n_bytes == 0:
            raise EOFError
        at, place = at + n_bytes, place + n_bytes
    return end - piece.at


def _announce(descriptor: int, place: int, n_bytes: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, place, n_bytes, os.POSIX_FADV_WILLNEED)
