"""Advisory locks on files, which the kernel releases when their process dies."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sae.core.errors import WorldError


@contextmanager
def held(file: Path, shared: bool = False) -> Iterator[None]:
    """Holds a lock.

    A shared one admits others that are shared, and says who holds it in the locks of the parts. The file stays: were it
    removed, a process that had opened the old one and a process that makes a new one could both hold "the" lock.

    Raises:
        WorldError: another process holds it; says which.
    """
    with file.open("a+", encoding="utf-8") as stream:
        if not _taken(stream, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            who = _holder(stream) or ", ".join(holders_of(file.with_suffix(".parts"))) or "?"
            raise WorldError(f"{file.parent.name}/{file.stem} is being built by process {who}; wait for it")
        stream.truncate(0)
        if not shared:
            stream.write(f"{os.getpid()} on {socket.gethostname()}")
        stream.flush()
        yield


def _taken(stream: IO[str], how: int) -> bool:
    try:
        fcntl.flock(stream, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip()


def holders_of(parts: Path) -> list[str]:
    """Who holds the locks in a folder of parts."""
    found = []
    for part in sorted(parts.glob("*.lock")):
        with part.open("r+", encoding="utf-8") as stream:
            if not _taken(stream, fcntl.LOCK_SH):
                found.append(_holder(stream))
    return found
