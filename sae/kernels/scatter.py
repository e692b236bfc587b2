"""Rows of a file, each to its place in memory.

1. Rows that lie together in the file are read together, into memory that stays in the processor's cache, and each is
   written from there to where it belongs, past the cache: to scatter them costs no more than to read them.
2. What is in the page cache is read at once. The rest is announced to the system, and read when `AHEAD_BYTES` more were
   announced: short requests one after the other would leave a disk idle in between.
3. With `past_memory`, pieces that lie apart are read past the page cache by many threads, which a disk does faster, but
   nothing is kept for the next time: right where the system would throw it out before.
4. In C++ where it can be built: one call for all rows, during which other threads of Python run. Else in Python, with
   the same bytes.
"""

import ctypes
import errno
import functools
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from sae.kernels import build
from sae.kernels.choice import VARIABLE

AHEAD_BYTES = 16 << 20
"""Bytes that are announced and not read yet: requests for a disk to work on, few enough to stay in the page cache."""
_MOST_THREADS = 4
"""Where the machine has as many processors; more do not copy faster."""
_SHORT_BYTES = 1 << 18
"""Pieces shorter than this on average lie apart: what the system would read beyond them is not wanted."""
_DISK_THREADS = 32
"""Requests that a disk works on at once, past the page cache."""
_NONE = -1
"""In place of a file's descriptor."""
_NOWAIT = int(getattr(os, "RWF_NOWAIT", 0))
"""Linux: read what is in memory, do not wait for a disk."""


def read_rows(
    path: Path,
    places: Int64[np.ndarray, "piece"],
    ends: Int64[np.ndarray, "piece"],
    out: Shaped[np.ndarray, "row width"],
    to: Int64[np.ndarray, "read"],
    past_memory: bool = False,
) -> None:
    """Reads pieces of a file, which are rows one after the other; the r-th of all rows becomes row `to[r]` of `out`.

    Args:
        path: of the file.
        places: where in the file each piece begins.
        ends: how many rows have been read at the end of each piece.
        out: C-contiguous.
        to: distinct rows of `out`.
        past_memory: whether what is read is not worth keeping in the page cache.

    Raises:
        EOFError: the file ends before a piece does.
        OSError: it cannot be read.
    """
    if len(to) == 0:
        return
    assert int(ends[-1]) == len(to)
    assert 0 <= int(to.min()) <= int(to.max()) < len(out)
    apart = len(to) * out.itemsize * out.shape[1] < _SHORT_BYTES * len(ends)
    with path.open("rb", buffering=0) as file:
        if apart:
            _read_nothing_beyond(file.fileno())
        loop = _loop()
        if loop is None:
            _read_in_python(file.fileno(), places.tolist(), ends.tolist(), out.view(np.uint8), to)
            return
        with _past_memory(path) if past_memory and apart else nullcontext(_NONE) as direct:
            n_threads = _n_processors() if direct == _NONE else _DISK_THREADS
            places, ends, to = (np.ascontiguousarray(numbers) for numbers in (places, ends, to))
            pieces, row_bytes = (places.ctypes.data, ends.ctypes.data, len(ends)), out.itemsize * out.shape[1]
            rows = (row_bytes, out.ctypes.data, to.ctypes.data)
            failed = loop(file.fileno(), direct, *pieces, *rows, AHEAD_BYTES, n_threads)
    if failed < 0:
        raise EOFError
    if failed:
        raise OSError(failed, os.strerror(failed))


@contextmanager
def _past_memory(path: Path) -> Iterator[int]:
    """The file, opened for reading past the page cache; none where the system does not do that."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except (AttributeError, OSError):
        yield _NONE
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _n_processors() -> int:
    """That this process may use, as many as are of use."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(n, _MOST_THREADS)


def _read_nothing_beyond(descriptor: int) -> None:
    if hasattr(os, "posix_fadvise"):  # macOS has none
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)


@functools.cache
def _declared() -> "ctypes._NamedFuncPointer | None":
    library = build.library()
    if library is None:
        return None
    pointer, count, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    loop = library.read_rows
    loop.argtypes = (number, number, pointer, pointer, count, count, pointer, pointer, count, number)
    loop.restype = number
    return loop


def _loop() -> "ctypes._NamedFuncPointer | None":
    return None if os.environ.get(VARIABLE) in ("reference", "sparse") else _declared()


class _Piece(NamedTuple):
    """Rows that lie together."""

    place: int
    to: Int64[np.ndarray, "row"]


def _read_in_python(
    descriptor: int,
    places: list[int],
    ends: list[int],
    out: UInt8[np.ndarray, "row byte"],
    to: Int64[np.ndarray, "read"],
) -> None:
    late: deque[_Piece] = deque()
    n_late, row_bytes = 0, out.shape[1]
    for place, start, end in zip(places, [0, *ends], ends, strict=False):
        piece = _Piece(place, to[start:end])
        rows = np.empty((end - start, row_bytes), np.uint8)
        if _read_cached(descriptor, rows.reshape(-1).data, place) == rows.nbytes:
            out[piece.to] = rows
            continue
        late.append(piece)
        _announce(descriptor, place, rows.nbytes)
        n_late += rows.nbytes
        while n_late > AHEAD_BYTES:
            n_late -= _read_late(descriptor, out, late.popleft())
    for piece in late:
        _read_late(descriptor, out, piece)


def _read_cached(descriptor: int, rows: memoryview, place: int) -> int:
    if not _NOWAIT:
        return 0
    try:
        return os.preadv(descriptor, [rows], place, _NOWAIT)
    except BlockingIOError:  # nothing of it is in memory
        return 0
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # the system cannot tell
            raise
        return 0


def _read_late(descriptor: int, out: np.ndarray, piece: _Piece) -> int:
    """Waits for a piece; returns its bytes."""
    rows, at = np.empty((len(piece.to), out.shape[1]), np.uint8), 0
    left = rows.reshape(-1).data
    while at < len(left):
        n_bytes = os.preadv(descriptor, [left[at:]], piece.place + at)
        if n_bytes == 0:
            raise EOFError
        at += n_bytes
    out[piece.to] = rows
    return at


def _announce(descriptor: int, place: int, n_bytes: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, place, n_bytes, os.POSIX_FADV_WILLNEED)
