"""What this machine has left for a run: disk, memory, the largest file; and what this process has taken of it."""

import math
import os
import resource
import shutil
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_MEMORY = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free


def largest_file() -> float:
    """Bytes that one file may have (`ulimit -f`); infinite where nothing limits it."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def available_bytes() -> int:
    """Memory that this process may hold in all, what it holds now included; limits of control groups (SLURM) count."""
    if not _MEMORY.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = _MEMORY.read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return min(free + resident_bytes(), *_limits())


def _limits() -> list[int]:
    """Limits of the control groups that this process is in, from its own to the outermost; at least one number."""
    limits = [sys.maxsize]
    membership = Path("/proc/self/cgroup")
    own = membership.read_text(encoding="ascii").partition("0::")[2].strip() if membership.is_file() else ""
    group = _CGROUPS / own.lstrip("/")
    for folder in (group, *group.parents):
        file = folder / "memory.max"
        if file.is_file() and (value := file.read_text(encoding="ascii").strip()) != "max":
            limits.append(int(value))
    return limits


def resident_bytes() -> int:
    """Memory that this process holds now."""
    return _status("VmRSS") if _STATUS.is_file() else _peak_since_start()


def forget_peak() -> None:
    """From here on `peak_bytes` counts anew, where the system allows it (Linux)."""
    if _CLEAR.is_file():
        _CLEAR.write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The most memory that this process held since `forget_peak`, or since it began."""
    return _status("VmHWM") if _STATUS.is_file() else _peak_since_start()


def _status(key: str) -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def _peak_since_start() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
