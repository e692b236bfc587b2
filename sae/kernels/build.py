"""Builds `loops.cpp` and `rows.cpp` on first use and loads them; the machine code is kept in a cache folder.

1. The file's name has a hash of sources, flags, compiler and processor, so that what was built elsewhere is not loaded,
   and one of its own bytes: a file that was cut off would end the process that loads it, and is built anew.
2. It lies under `$XDG_CACHE_HOME/sae`, else `~/.cache/sae`; it is built beside its final name and renamed, so processes
   that build at once do not disturb each other.
3. OpenMP is left to the runtime that torch has loaded: a second one would bring threads of its own, which would
   contend with torch's. Where torch's has another name, the compiler's is linked after all.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sae.core.errors import WorldError

SOURCES = tuple(Path(__file__).with_name(name) for name in ("loops.cpp", "rows.cpp"))
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-pthread", "-fPIC")
_COMPILERS = ("c++", "g++", "clang++")


@functools.cache
def library() -> ctypes.CDLL | None:
    """The loops as machine code; none, and one notice in the log, where they cannot be built."""
    try:
        return built(_compiler(), _cache())
    # RuntimeError where nobody knows a home folder, ValueError where $CXX has a quote too few.
    except (WorldError, OSError, RuntimeError, ValueError) as error:
        notice = "no compiled kernels, the slower ones in torch take their place: %s"
        logging.getLogger("sae.kernels").warning(notice, error)
        return None


def built(compiler: Sequence[str], folder: Path) -> ctypes.CDLL:
    """The loops, from `folder` where they were built before; a compiler is a command with its first arguments.

    Raises:
        WorldError: the compiler failed.
        OSError: the folder cannot be written, or what was built cannot be loaded.
    """
    name = f"loops-{_fingerprint(compiler)}"
    whole = next((path for path in folder.glob(f"{name}-*.so") if path.name == _named(name, path)), None)
    if whole is None:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            linked = _compiled(compiler, Path(beside))
            whole = folder / _named(name, linked)
            os.replace(linked, whole)
    return ctypes.CDLL(str(whole))


def _named(name: str, library: Path) -> str:
    """With the hash of what is in the file."""
    return f"{name}-{hashlib.sha256(library.read_bytes()).hexdigest()[:16]}.so"


def _compiled(compiler: Sequence[str], folder: Path) -> Path:
    linked, compiled = folder / "loops.so", [str(folder / f"{source.stem}.o") for source in SOURCES]
    for source, to in zip(SOURCES, compiled, strict=True):
        _run(*compiler, *FLAGS, "-c", str(source), "-o", to)
    _run(*compiler, "-shared", *compiled, "-o", str(linked))
    try:
        ctypes.CDLL(str(linked))
    except OSError:
        _run(*compiler, "-shared", "-fopenmp", *compiled, "-o", str(linked))
    return linked


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr.strip() or "nothing was said").splitlines()[-1]
        raise WorldError(f"{command[0]} ended with status {done.returncode}: {said}")
    return done.stdout


def _compiler() -> list[str]:
    """`$CXX`, which may have arguments, or what there is."""
    command, *arguments = shlex.split(os.environ.get("CXX", "")) or [""]
    commands = [command] if command else _COMPILERS
    found = next(filter(None, map(shutil.which, commands)), None)
    if found is None:
        raise WorldError(f"no C++ compiler: {', '.join(commands)} not found")
    return [found, *arguments]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sae"


def _fingerprint(compiler: Sequence[str]) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    processor = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    sources = [source.read_text(encoding="utf-8") for source in SOURCES]
    said = [*sources, *FLAGS, *compiler, _run(*compiler, "--version"), platform.platform()]
    return hashlib.sha256("\n".join([*said, *processor]).encode()).hexdigest()[:16]
