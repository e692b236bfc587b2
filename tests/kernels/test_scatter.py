"""Rows of a file, in C++ and in Python: each where it belongs, from memory or from the disk; the file's end is told."""

import os
from pathlib import Path

import numpy as np
import pytest

from sae.kernels import scatter
from sae.kernels.choice import VARIABLE
from sae.kernels.scatter import read_rows
from tests.kernels.spellings import COMPILED

N = 1 << 20
CONTENT = np.random.default_rng(0).integers(0, 256, N, dtype=np.uint8)


@pytest.fixture(params=[pytest.param("cpu", marks=COMPILED), "sparse"])
def spelt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "content").write_bytes(CONTENT.tobytes())
    return tmp_path / "content"


def forget(path: Path) -> None:
    """Drops what the system has cached of a file, where it can be asked to."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def some_pieces(row_bytes: int, n: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, lengths in rows, and how many rows end with each; they overlap and do not ascend, and some are empty."""
    random, longest = np.random.default_rng(row_bytes), max(3, 40_000 // row_bytes)
    lengths = random.integers(0, longest, n)
    return random.integers(0, N - longest * row_bytes, n), lengths, np.cumsum(lengths)


@pytest.mark.usefixtures("spelt")
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("n_threads", "past_memory"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize(("width", "dtype"), [(3, "i1"), (100, "<f2"), (768, "<f2"), (9000, "<f4")])
def test_each_row_is_where_it_belongs(
    path: Path,
    cached: bool,
    n_threads: int,
    past_memory: bool,
    width: int,
    dtype: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scatter, "_n_processors", lambda: n_threads)
    monkeypatch.setattr(scatter, "AHEAD_BYTES", 100_000)  # some are read before the last is announced
    row_bytes = width * np.dtype(dtype).itemsize
    places, lengths, ends = some_pieces(row_bytes)
    if not cached:
        forget(path)
    n, beside = ends[-1], 5
    to = np.random.default_rng(1).permutation(n + beside)[:n]
    out = np.full((n + beside, row_bytes), 7, np.uint8)
    read_rows(path, places, ends, out.view(dtype), to, past_memory)
    truth = [CONTENT[place : place + n * row_bytes] for place, n in zip(places, lengths, strict=True)]
    assert np.array_equal(out[to].reshape(-1), np.concatenate(truth))
    assert (np.delete(out, to, axis=0) == 7).all(), "where none belongs is left alone"


@pytest.mark.usefixtures("spelt")
@pytest.mark.parametrize("past_memory", [True, False])
@pytest.mark.parametrize("place", [N - 5, N, N + 100])
def test_the_end_of_the_file_is_told(path: Path, place: int, past_memory: bool) -> None:
    forget(path)
    out, places, ends = np.zeros((4, 3), np.uint8), np.array([0, place]), np.array([2, 4])
    with pytest.raises(EOFError):
        read_rows(path, places, ends, out, np.arange(4), past_memory)


@pytest.mark.usefixtures("spelt")
@pytest.mark.parametrize("past_memory", [True, False])
def test_what_cannot_be_read_is_told(tmp_path: Path, past_memory: bool) -> None:
    out, one = np.zeros((2, 3), np.uint8), (np.array([0]), np.array([2]))
    with pytest.raises(IsADirectoryError):
        read_rows(tmp_path, *one, out, np.arange(2), past_memory)
    with pytest.raises(FileNotFoundError):
        read_rows(tmp_path / "nowhere", *one, out, np.arange(2), past_memory)
    if (nobody := Path("/proc/self/mem")).exists():  # nothing lies at its beginning
        with pytest.raises(OSError, match="Input/output error"):
            read_rows(nobody, *one, out, np.arange(2), past_memory)


@pytest.mark.usefixtures("spelt")
def test_no_rows_are_nothing(path: Path) -> None:
    out, nothing = np.full((3, 2), 7, np.uint8), np.zeros(0, np.int64)
    read_rows(path, nothing, nothing, out, nothing)
    assert (out == 7).all()
