#!/usr/bin/env python3
"""How fast shards are read back and written, beside what memory and the disk give for the same bytes.

    python scripts/bench_shards.py [--quick] [--json FILE] [--folder FOLDER] [--only NAME]

A folder of float16 rows is written as a harvest writes it. Contenders run once a round, the order rotating, and a
ratio is the median over rounds. Warm: whole shuffled batches, as they are stored (where they lie in the buffer), copied
from there, and widened to float32, while a thread fills the next buffer, and filling a buffer alone, beside
`numpy.copyto` of as many stored bytes; row-random indexing (h5py) for comparison. Cold: what is cached is dropped
before each turn (`posix_fadvise`), then reading a buffer of slices from all shards, through the page cache and past it
(as of splits far larger than memory), beside the faster of reading as many bytes in a row in requests of 1 MB, as `dd`
does, and of 16 MB; and beside what the disk gives for as many requests as short as a slice, at random places, by many
threads, which do nothing with them. Writing, synced, beside `dd` with `fsync` from a file that is cached; both begin by
removing what they wrote before. What else is in it: the same of a split that is not summed over, and `dd` with a
SHA-256 of what it wrote, as every shard has one. A disk that gives bursts shows in the rates of the slowest and the
fastest round. Rows of the file: {name, value, unit, against, target, holds}; exit status 0 whether or not targets hold.
"""

import argparse
import json
import mmap
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from sae.activations.contents import Contents, SiteContents
from sae.activations.finished import remove_sums
from sae.activations.reader import Activations
from sae.activations.rows import Rows
from sae.activations.shard_writer import Storage
from sae.activations.shuffle import SLICE_ROWS, Mixing, Reader, ShuffledBatches
from sae.activations.split_writer import SplitWriter
from sae.activations.stream import StreamWriter
from sae.core.artifact import digest_of
from sae.core.splits import Split
from sae.lm.documents import Document
from sae.lm.packing import Packing

SITE = "blocks.0.resid_post"
MEGABYTE = 1 << 20
DOCUMENT = 128
"""Rows of a document."""
BUFFERS = 8
"""In one turn of giving out batches."""
DISK_THREADS = 32
"""That ask for something short."""
PARTS = ("warm", "cold", "writing")
DIRECT = int(getattr(os, "O_DIRECT", 0))
"""Past the page cache, where the system does that."""
PAUSE_SECONDS = 0.1
"""Before such a turn: what the one before reads ahead is read by then."""


@dataclass(frozen=True)
class Shape:
    """What is written and read, and how often."""

    d: int
    n_rows: int
    shard_rows: int
    buffer_rows: int
    batch: int
    n_rounds: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows as stored."""
        return self.n_rows * self.d * 2

    def target(self, least: float) -> float | None:
        """None for a shape that only shows that it runs."""
        return None if self.d == QUICK.d else least


FULL = Shape(d=768, n_rows=1 << 19, shard_rows=1 << 16, buffer_rows=1 << 16, batch=4096, n_rounds=7)
QUICK = Shape(d=64, n_rows=1 << 15, shard_rows=1 << 13, buffer_rows=1 << 13, batch=1024, n_rounds=3)

Row = dict[str, Any]


def row(name: str, value: float, unit: str, against: str = "", target: float | None = None) -> Row:
    """A row; a target is the least value that holds."""
    holds = None if target is None else value >= target
    return {"name": name, "value": value, "unit": unit, "against": against, "target": target, "holds": holds}


def block_of(shape: Shape) -> torch.Tensor:
    """Rows as a model gives them."""
    return torch.randn(DOCUMENT * 64, shape.d, generator=torch.Generator().manual_seed(0)).half()


def write_shards(folder: Path, shape: Shape, block: torch.Tensor, split: Split = "train") -> None:
    """A folder of activations, as a harvest writes its shards: summed over if it is the train split, synced, hashed."""
    sites = (SiteContents(name=SITE, d=shape.d),)
    storage = Storage(folder, sites, "float16", "none", shape.shard_rows, n_vocabulary=1, piece=DOCUMENT)
    writer = SplitWriter(storage, split)
    position = np.tile(np.arange(DOCUMENT), 64)
    nothing = np.zeros((len(block), 2), np.int64)
    for start in range(0, shape.n_rows, len(block)):
        document = (start + np.arange(len(block))) // DOCUMENT
        writer.append(Rows(document, position + 1, document, position, nothing[:, 0], nothing, {SITE: block}))
    writer.finish()
    remove_sums(folder)
    shards = tuple(shard.contents for shard in writer.finished)
    Contents(dtype="float16", packing=Packing(window=DOCUMENT), sites=sites, shards=shards).write(folder)


def write_tokens(folder: Path, shape: Shape) -> None:
    tokens = StreamWriter(folder, [])
    ids = np.zeros(DOCUMENT, np.int32)
    tokens.append([Document(i, ids, "train", i) for i in range(shape.n_rows // DOCUMENT)])
    tokens.close()


def sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def rounds(
    contenders: Mapping[str, Callable[[], float]], n_rounds: int, before: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Gigabytes a second by contender and round, the order rotating; the first turn of each does not count."""
    names = list(contenders)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(n_rounds + 1):
        for step in range(len(names)):
            name = names[(turn + step) % len(names)]
            before()
            start = time.perf_counter()
            n_bytes = contenders[name]()
            rates[name].append(n_bytes / (time.perf_counter() - start) / 1e9)
    return {name: found[1:] for name, found in rates.items()}


def rate_rows(kind: str, rates: Mapping[str, Sequence[float]]) -> list[Row]:
    """The median of each contender, and between which rates its rounds were."""
    ends = (("", statistics.median), ("_slowest", min), ("_fastest", max))
    return [row(f"rate_{kind}_{name}{end}", of(found), "GB/s") for name, found in rates.items() for end, of in ends]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


class Reading:
    """The contenders that read; each turn takes another buffer."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.shape, self.folder = shape, folder
        self.activations = Activations(folder)
        self.paths = sorted(folder.glob("train-*.h5"))
        self.source = np.ones((shape.buffer_rows, shape.d), "<u2")
        self.target = np.ones_like(self.source)
        self.bytes = self.target.reshape(-1).view(np.uint8).data
        self.outs = {dtype: torch.ones(shape.batch, shape.d, dtype=dtype) for dtype in (torch.float16, torch.float32)}
        self.turn = 0

    def copy(self) -> float:
        np.copyto(self.target, self.source)
        return self.source.nbytes

    def batches(self, slice_rows: int = SLICE_ROWS, read_ahead: bool = False) -> ShuffledBatches:
        mixing, reader = Mixing(self.shape.buffer_rows, slice_rows), Reader(read_ahead=read_ahead)
        return ShuffledBatches(self.activations, SITE, "train", self.shape.batch, 0, mixing, reader)

    def fill(self, batches: ShuffledBatches) -> float:
        """Reads one buffer, by asking for one row of it."""
        self.turn += 1
        one = self.shape.buffer_rows // self.shape.batch
        batches.batch(self.turn * one)
        return self.source.nbytes

    def given_out(self, batches: ShuffledBatches, dtype: torch.dtype | None = None) -> float:
        """All batches of several buffers; the first counts for nothing, since it may have been read ahead before."""
        one = self.shape.buffer_rows // self.shape.batch
        self.turn += BUFFERS
        for step in range(self.turn * one, (self.turn + BUFFERS) * one):
            if dtype is None:
                batches.stored(step)
            else:
                batches.fill(step, self.outs[dtype])
        return (BUFFERS - 1) * one * self.shape.batch * self.shape.d * 2

    def fill_past_memory(self, batches: ShuffledBatches) -> float:
        """As `fill`, as of a split far larger than memory."""
        self.activations.past_memory["train"] = True
        n_bytes = self.fill(batches)
        self.activations.past_memory["train"] = False
        return n_bytes

    def by_row(self) -> float:
        """One batch of random rows, sorted, through h5py."""
        rows = np.sort(np.random.default_rng(self.turn).permutation(self.shape.shard_rows)[: self.shape.batch // 4])
        with h5py.File(self.paths[0]) as file:
            return np.asarray(file[f"activations/{SITE}"][rows]).nbytes  # pyright: ignore[reportIndexIssue]

    def in_a_row(self, request: int) -> float:
        """As many bytes as a buffer has, one after the other."""
        n = min(self.source.nbytes, self.shape.n_bytes)
        at = 0
        for path in self.paths:
            with path.open("rb", buffering=0) as file:
                while at < n and (got := file.readinto(self.bytes[at : min(at + request, n)])):
                    at += got
        return at

    def short(self, flags: int) -> float:
        """As many bytes as a buffer has, in aligned requests of a slice at distinct random places of all shards."""
        self.turn += 1
        page = mmap.PAGESIZE
        n_bytes = max(page, SLICE_ROWS * self.shape.d * 2 // page * page)
        n = self.source.nbytes // n_bytes // len(self.paths)
        draw = np.random.default_rng(self.turn)
        files = [os.open(path, os.O_RDONLY | flags) for path in self.paths]
        todo = [
            (file, at * n_bytes)
            for file, path in zip(files, self.paths, strict=True)
            for at in np.sort(draw.permutation(path.stat().st_size // n_bytes)[:n]).tolist()
        ]

        def read(thread: int) -> None:
            with mmap.mmap(-1, n_bytes) as memory:
                for file, at in todo[thread::DISK_THREADS]:
                    os.preadv(file, [memory], at)

        with ThreadPoolExecutor(DISK_THREADS) as threads:
            list(threads.map(read, range(DISK_THREADS)))
        for file in files:
            os.close(file)
        return len(todo) * n_bytes

    def forget(self) -> None:
        """Drops what the system has cached of the folder."""
        for path in self.paths:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm_rows(reading: Reading, n_rounds: int) -> list[Row]:
    filled = reading.batches()
    stored, copied, widened = (reading.batches(read_ahead=True) for _ in range(3))
    for _ in range(2 * (reading.shape.n_rows // reading.shape.buffer_rows)):
        reading.fill(filled)
    rates = rounds({"copy": reading.copy, "fill": lambda: reading.fill(filled), "by_row": reading.by_row}, n_rounds)
    ahead = rounds(
        {
            "copy": reading.copy,
            "stored": lambda: reading.given_out(stored),
            "copied": lambda: reading.given_out(copied, torch.float16),
            "float32": lambda: reading.given_out(widened, torch.float32),
        },
        n_rounds,
        lambda: time.sleep(PAUSE_SECONDS),
    )
    for batches in (filled, stored, copied, widened):
        batches.close()
    memory, speeds = "numpy.copyto of the same bytes", "ratio of speeds"
    target = reading.shape.target(0.5)
    return [
        row("shuffled_reading", ratio(ahead["copied"], ahead["copy"]), speeds, memory, target),
        row("shuffled_reading_uncopied", ratio(ahead["stored"], ahead["copy"]), speeds, memory),
        row("shuffled_reading_float32", ratio(ahead["float32"], ahead["copy"]), speeds, memory),
        row("filling_a_buffer", ratio(rates["fill"], rates["copy"]), speeds, memory, target),
        row("row_random_indexing", ratio(rates["by_row"], rates["copy"]), speeds, memory),
        *rate_rows("warm", rates | ahead),
    ]


def cold_rows(reading: Reading, n_rounds: int) -> list[Row]:
    """Without targets where the system does not forget: there is nothing to measure."""
    can = hasattr(os, "posix_fadvise")
    slices = {n: reading.batches(n) for n in (16, 32, 64)}
    rates = rounds(
        {
            "in_a_row_1MB": lambda: reading.in_a_row(MEGABYTE),
            "in_a_row_16MB": lambda: reading.in_a_row(16 * MEGABYTE),
            **{f"short{name}": partial(reading.short, flags) for name, flags in (("", 0), ("_past_memory", DIRECT))},
            **{f"slices_of_{n}": partial(reading.fill, b) for n, b in slices.items()},
            **{f"slices_of_{n}_past_memory": partial(reading.fill_past_memory, b) for n, b in slices.items()},
        },
        n_rounds,
        reading.forget if can else lambda: None,
    )
    for batches in slices.values():
        batches.close()
    best = max(("in_a_row_1MB", "in_a_row_16MB"), key=lambda name: statistics.median(rates[name]))
    warm = statistics.median(rates[best]) > 4  # no disk of ours: what was forgotten came from memory all the same
    target = reading.shape.target(0.8) if can and not warm else None
    disk = f"cold reading of the same bytes ({best})"
    short = max(("short", "short_past_memory"), key=lambda name: statistics.median(rates[name]))
    requests = f"requests as short, nothing done with them ({short})"
    return [
        row("cold_reading", ratio(rates["slices_of_16"], rates[best]), "ratio of speeds", disk, target),
        row("cold_reading_over_short", ratio(rates["slices_of_16"], rates[short]), "ratio of speeds", requests, target),
        *(
            row(f"cold_reading_{name}", ratio(found, rates[best]), "ratio of speeds", disk)
            for name, found in rates.items()
            if name.startswith("slices")
        ),
        *rate_rows("cold", rates),
    ]


def writing_rows(folder: Path, shape: Shape, n_rounds: int) -> list[Row]:
    ours, theirs, block = folder / "ours", folder / "theirs", block_of(shape)

    def write(split: Split) -> float:
        shutil.rmtree(ours, ignore_errors=True)
        ours.mkdir()
        write_shards(ours, shape, block, split)
        sync(ours)
        return shape.n_bytes

    def hashed() -> float:
        n_bytes = dd()
        digest_of(theirs)
        return n_bytes

    def dd() -> float:
        n = shape.n_bytes // MEGABYTE
        command = ["dd", f"if={source}", f"of={theirs}", "bs=1M", f"count={n}", "conv=fsync", "status=none"]
        subprocess.run(command, check=True)
        return n * MEGABYTE

    source = folder / "source"
    source.write_bytes(np.random.default_rng(0).bytes(shape.n_bytes))
    contenders = {"ours": partial(write, "train"), "unsummed": partial(write, "test"), "dd": dd, "dd_hashed": hashed}
    rates = rounds(contenders, n_rounds)
    disk, speeds = "dd with fsync of the same bytes", "ratio of speeds"
    return [
        row("writing", ratio(rates["ours"], rates["dd"]), speeds, disk, shape.target(0.8)),
        row("writing_unsummed", ratio(rates["unsummed"], rates["dd"]), speeds, disk),
        row("writing_over_hashed", ratio(rates["ours"], rates["dd_hashed"]), speeds, f"{disk}, then SHA-256"),
        *rate_rows("writing", rates),
    ]


def show(rows: Sequence[Row]) -> None:
    for one in rows:
        verdict = {None: "", True: "holds", False: "MISSED"}[one["holds"]]
        target = "" if one["target"] is None else f"target {one['target']:g}"
        print(f"{one['name']:<40}{one['value']:>10.3g} {one['unit']:<20}{target:<14}{verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny shape and few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; left out: the system's temporary folder")
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        stored = folder / "rows"
        stored.mkdir()
        write_shards(stored, shape, block_of(shape))
        write_tokens(stored, shape)
        sync(stored)
        reading = Reading(stored, shape)
        parts = {
            "warm": lambda: warm_rows(reading, shape.n_rounds),
            "cold": lambda: cold_rows(reading, shape.n_rounds),
            "writing": lambda: writing_rows(folder, shape, shape.n_rounds),
        }
        rows = []
        for part in (options.only,) if options.only else PARTS:
            found = parts[part]()
            show(found)
            rows += found
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
