#!/usr/bin/env python3
"""What a training step costs beside three other libraries, and beside the floor.

    python scripts/bench_train.py [--quick] [--json FILE] [--peers] [--sizes small,middle] [--presets topk,relu]
                                  [--threads N] [--allocator]

Ours is `sae.training.loop` as it ships: metrics, counters of dead latents, clipping, schedule. `--peers` adds SAELens,
dictionary_learning and sparsify, each with its own trainer and bookkeeping, in environments of their own
(scripts/peers).
All contenders make one window a round, the order rotating, and a ratio is the median over rounds, so load that comes
and goes meets all alike. The floor is the encoder's product alone, timed among the contenders, plus what else must be
moved (k rows a token for decoding and for each of three gradients, seven numbers a parameter for Adam) at the bandwidth
of a copy timed beside it. `--allocator` keeps freed memory in every process, which spares the peers page faults. Memory
is the peak of a fresh process above what it held before training. Rows of the file: {name, value, unit, against,
target, holds}; exit status 0 whether or not targets hold.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from bench_reading import Row, resident_bytes, row, show
from peers.activations import QUICK, SIZES, Size, rows, write_settings
from peers.environment import DICTIONARY_LEARNING, SAELENS, SPARSIFY
from peers.process import PeerProcess
from torch import Tensor

from sae.core.errors import WorldError
from sae.training import TrainConfig, initial, loop
from sae.training.config import Preset

PRESETS = ("topk", "batchtopk", "matryoshka", "relu", "jumprelu")
PEERS = {
    "saelens": (SAELENS, "saelens_trainer"),
    "dictionary_learning": (DICTIONARY_LEARNING, "dictionary_learning_trainer"),
    "sparsify": (SPARSIFY, "sparsify_trainer"),
}
FASTER_THAN_SPARSIFY = {"small": 2.7, "middle": 1.9, "large": 1.35}
FASTER_THAN_FASTEST = {"batchtopk": 6.0, "matryoshka": 6.0, "relu": 2.5, "jumprelu": 2.5}
"""At the middle size."""
PEAK = 200.0
"""MB at the middle size."""
MEGABYTE = 1_000_000
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
BLOCK = 1024


@dataclass(frozen=True)
class Pool:
    """Batches by step, in memory."""

    x: Tensor
    n: int

    def batch(self, step: int) -> Tensor:
        start = step * self.n % len(self.x)
        return self.x[start : start + self.n]


class Ours:
    """A run that is moved on by a window at a time."""

    def __init__(self, size: Size, preset: str, x: Tensor) -> None:
        config = TrainConfig(
            preset=cast(Preset, preset), d_sae=size.d_sae, l0=size.k, batch=size.batch, tokens=10**6 * size.batch
        )
        self._size = size
        self._progress = loop(initial(x[: size.batch], config), Pool(x, size.batch), config)

    def rate(self) -> float:
        """Tokens a second."""
        start = time.perf_counter()
        for _ in range(self._size.n_steps):
            next(self._progress)
        return self._size.n_steps * self._size.batch / (time.perf_counter() - start)


class Floor:
    """What no TopK step can go below, from rates measured in the same rounds."""

    def __init__(self, size: Size, x: Tensor) -> None:
        self._size, self._x = size, x[: size.batch]
        self._rows = torch.randn(size.d_sae, size.d)
        self._out = torch.empty(min(BLOCK, size.batch), size.d_sae)
        self._source, self._copy = torch.randn(2, 8 * MEGABYTE)

    def rate(self) -> float:
        """Tokens a second."""
        start = time.perf_counter()
        for part in self._x.split(len(self._out)):
            torch.mm(part, self._rows.T, out=self._out[: len(part)])
        product = time.perf_counter() - start
        start = time.perf_counter()
        self._copy.copy_(self._source)
        seconds_per_number = (time.perf_counter() - start) / (2 * self._source.numel())
        sparse = 4 * self._size.batch * self._size.k * self._size.d
        adam = 7 * 2 * self._rows.numel()
        return self._size.batch / (product + (sparse + adam) * seconds_per_number)


def rates_of(contenders: dict[str, Callable[[], float]], n_rounds: int) -> dict[str, list[float]]:
    """Tokens a second by contender and round, the order rotating from round to round; a first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(n_rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rate = contenders[name]()
            if turn:
                rates[name].append(rate)
    return rates


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def step_rows(size: Size, preset: str, peers: Sequence[str], folder: Path) -> list[Row]:
    """One size and preset: ours, the peers that know it, the floor."""
    x = rows(size)
    settings = folder / f"{size.name}_{preset}.json"
    contenders: dict[str, Callable[[], float]] = {"floor": Floor(size, x).rate, "ours": Ours(size, preset, x).rate}
    processes = []
    if peers:
        write_settings(settings, size, preset, x, torch.get_num_threads())
    for name in peers:
        if name == "sparsify" and preset != "topk":
            continue
        try:
            processes.append(PeerProcess(PEERS[name][0], PEERS[name][1], settings))
        except WorldError as error:  # the others are measured without it
            sys.stderr.write(f"{name} is left out: {error}\n")
            continue
        contenders[name] = processes[-1].tokens_per_second
    rates = rates_of(contenders, size.n_rounds)
    for process in processes:
        process.close()
    return _compared(size, preset, rates)


def _compared(size: Size, preset: str, rates: dict[str, list[float]]) -> list[Row]:
    label = f"{preset}_{size.name}"
    found = []
    others = [name for name in rates if name in PEERS]
    for name in others:
        target = FASTER_THAN_SPARSIFY.get(size.name) if name == "sparsify" else None
        found.append(row(f"{label}_over_{name}", ratio(rates["ours"], rates[name]), "ratio of speeds", name, target))
    if preset in FASTER_THAN_FASTEST and others:
        fastest = max(others, key=lambda name: statistics.median(rates[name]))
        target = FASTER_THAN_FASTEST[preset] if size.name == "middle" else None
        speed = ratio(rates["ours"], rates[fastest])
        found.append(row(f"{label}_over_fastest_peer", speed, "ratio of speeds", fastest, target))
    times_floor = ratio(rates["floor"], rates["ours"])
    found.append(row(f"{label}_times_floor", times_floor, "ratio of times", "floor of a TopK step in float32"))
    for name, measured in rates.items():
        found.append(row(f"{label}_step_{name}", 1000 * size.batch / statistics.median(measured), "ms"))
    return found


def memory_row(size: Size) -> list[Row]:
    """The peak of a fresh process; nothing where the system does not say."""
    if not Path("/proc/self/status").is_file():
        return []
    command = [sys.executable, __file__, "--peak-of", size.name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    target = PEAK if size.name == "middle" else None
    return [row(f"memory_{size.name}", float(done.stdout) / MEGABYTE, "MB", "before training", target, most=True)]


def peak_of(size: Size) -> int:
    """Trains in this process: bytes above those held with the activations loaded."""
    x = rows(size)
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    ours = Ours(size, "topk", x)
    for _ in range(3):
        ours.rate()
    return resident_bytes("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny size and few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--peers", nargs="?", const=",".join(PEERS), default="", help="all, or these")
    parser.add_argument("--sizes", default=",".join(size.name for size in SIZES))
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--allocator", action="store_true", help="freed memory is kept, by everyone")
    parser.add_argument("--peak-of", metavar="SIZE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.allocator and any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR)
    sizes = {size.name: size for size in (*SIZES, QUICK)}
    torch.set_num_threads(options.threads)
    if options.peak_of is not None:
        print(peak_of(sizes[options.peak_of]))
        return
    chosen = [QUICK] if options.quick else [sizes[name] for name in options.sizes.split(",")]
    peers = [name for name in options.peers.split(",") if name]
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in chosen:
            for preset in options.presets.split(","):
                found += step_rows(size, preset, peers, Path(folder))
                show(found[-len(peers) - 6 :] if peers else found[-3:])
            found += memory_row(size)
            show(found[-1:])
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
