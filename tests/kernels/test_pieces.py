"""Pieces of a file, in C++ and in Python: the bytes that lie there, from memory or from the disk; its end is told."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sae.kernels import pieces
from sae.kernels.choice import VARIABLE
from sae.kernels.pieces import read_pieces
from tests.kernels.spellings import COMPILED

N = 1 << 20
CONTENT = np.random.default_rng(0).integers(0, 256, N, dtype=np.uint8)


@pytest.fixture(params=[pytest.param("cpu", marks=COMPILED), "sparse"])
def spelt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, request.param)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "content").write_bytes(CONTENT.tobytes())
    file = os.open(tmp_path / "content", os.O_RDONLY)
    os.fsync(file)
    yield file
    os.close(file)


def some_pieces(longest: int, n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, lengths, and where each ends in memory; they overlap and do not ascend, and some are empty."""
    random = np.random.default_rng(longest)
    lengths = random.integers(0, longest, n)
    return random.integers(0, N - longest, n), lengths, np.cumsum(lengths)


@pytest.mark.usefixtures("spelt")
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("longest", [20, 9000])
def test_they_are_the_bytes_that_lie_there(
    descriptor: int, cached: bool, n_threads: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_n_processors", lambda: n_threads)
    monkeypatch.setattr(pieces, "AHEAD_BYTES", 100_000)  # some are read before the last is announced
    places, lengths, ends = some_pieces(longest)
    if not cached and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    out = np.zeros(ends[-1], np.uint8)
    read_pieces(descriptor, places, ends, out)
    truth = [CONTENT[place : place + n] for place, n in zip(places, lengths, strict=True)]
    assert np.array_equal(out, np.concatenate(truth))


@pytest.mark.usefixtures("spelt")
@pytest.mark.parametrize("place", [N - 5, N, N + 100])
def test_the_end_of_the_file_is_told(descriptor: int, place: int) -> None:
    with pytest.raises(EOFError):
        read_pieces(descriptor, np.array([0, place]), np.array([6, 12]), np.zeros(12, np.uint8))


@pytest.mark.usefixtures("spelt")
def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        read_pieces(folder, np.array([0]), np.array([6]), np.zeros(6, np.uint8))
    os.close(folder)


@pytest.mark.usefixtures("spelt")
def test_no_pieces_are_nothing(descriptor: int) -> None:
    out = np.full(3, 7, np.uint8)
    read_pieces(descriptor, np.zeros(0, np.int64), np.zeros(0, np.int64), out)
    assert (out == 7).all()
