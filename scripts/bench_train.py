#!/usr/bin/env python3
"""What a training step costs beside three other libraries, and beside the floor.

    python scripts/bench_train.py [--quick] [--json FILE] [--peers] [--sizes small,middle] [--presets topk,relu]
                                  [--threads N] [--allocator] [--dead SHARE]

Ours is `sae.training.loop` as it ships: metrics, counters of dead latents, clipping, schedule. `--peers` adds SAELens,
dictionary_learning and sparsify, each with its own trainer and bookkeeping, in environments of their own
(scripts/peers).
All contenders make one window a round, the order rotating, and a ratio is the median over rounds, so load that comes
and goes meets all alike; processor time, of all threads, stands beside it, since a busy machine changes it less. The
floor is the encoder's product alone, timed among the contenders, plus what else must be moved (k rows a token for
decoding and for each of three gradients, seven numbers a parameter for Adam) at the bandwidth of a copy timed too.
`--allocator` keeps freed memory in every process, which spares the peers page faults. No latent dies in so few steps;
with `--dead` a share of ours counts as dead at every step, and learns by AuxK, which the floor leaves out. Memory
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

import torch
from bench_reading import Row, resident_bytes, row, show
from bench_shards import SITE, Shape, block_of, write_shards, write_tokens
from peers.activations import QUICK, SIZES, Size, rows, write_settings
from peers.environment import DICTIONARY_LEARNING, SAELENS, SPARSIFY
from peers.process import PeerProcess
from peers.trained import PRESETS as TRAINED
from peers.trained import trained, write_weights
from torch import Tensor

from sae.activations.reader import Activations
from sae.activations.shuffle import Mixing, ShuffledBatches
from sae.core.errors import WorldError
from sae.dictionary import Dictionary
from sae.kernels import AdamStep, FixedCode, Slot, descend
from sae.kernels.choice import loops_for
from sae.kernels.loops import Pairs
from sae.kernels.pool import give_back
from sae.training import Batches, TrainConfig, initial, loop
from sae.training.config import Preset
from sae.training.places import one_site
from sae.training.state import continued, starts

PRESETS = ("topk", "batchtopk", "matryoshka", "relu", "jumprelu")
PEERS = {
    "saelens": (SAELENS, "saelens_trainer"),
    "dictionary_learning": (DICTIONARY_LEARNING, "dictionary_learning_trainer"),
    "sparsify": (SPARSIFY, "sparsify_trainer"),
}
FASTER_THAN_SPARSIFY = {"small": 2.7, "middle": 1.9, "large": 1.35}
FASTER_THAN_FASTEST = {"batchtopk": 6.0, "matryoshka": 6.0, "relu": 2.5, "jumprelu": 2.5}
"""At the middle size."""
DENSEST = 64.0
"""Mean active latents at which ReLU and JumpReLU are compared."""
OF_PRODUCT = 0.9
"""Of the encoder product's own rate, for encoding in float32."""
OF_MEMORY = 0.9
"""Of the rate with batches in memory, for batches from shards."""
PEAK = 200.0
"""MB at the middle size."""
MEGABYTE = 1_000_000
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
BLOCK = 512
"""Tokens; more where they are 16 MB at most. Larger blocks would not stay in the cache."""


@dataclass(frozen=True)
class Pool:
    """Batches by step, in memory."""

    x: Tensor
    n: int

    def batch(self, step: int) -> Tensor:
        start = step * self.n % len(self.x)
        return self.x[start : start + self.n]


class Seconds(NamedTuple):
    """Of one step."""

    wall: float
    processor: float
    """Of all threads."""


class Ours:
    """A run that is moved on by a window at a time."""

    def __init__(
        self, size: Size, preset: str, x: Tensor, begin: Dictionary | None = None, batches: Batches | None = None
    ) -> None:
        config = TrainConfig(
            preset=cast(Preset, preset), d_sae=size.d_sae, l0=size.k, batch=size.batch, tokens=10**6 * size.batch
        )
        self._size, sample, places = size, x[: size.batch], one_site(size.d)
        if begin is None:
            self.state = initial(sample, config, places)
        else:
            self.state = continued(begin, starts(sample, config, places), config, places)
        self._progress = loop(self.state, batches or Pool(x, size.batch), config)

    def step(self) -> Seconds:
        """A window of steps."""
        start, worked = time.perf_counter(), time.process_time()
        for _ in range(self._size.n_steps):
            if self._size.dead:
                self.state.tokens_since_fired[: round(self._size.dead * self._size.d_sae)] = 10**12
            next(self._progress)
        n = self._size.n_steps
        return Seconds((time.perf_counter() - start) / n, (time.process_time() - worked) / n)


class Floor:
    """What no TopK step can go below, from rates measured in the same rounds."""

    def __init__(self, size: Size, x: Tensor) -> None:
        self._size, self._x = size, x[: size.batch]
        self._rows = torch.randn(size.d_sae, size.d)
        self._out = torch.empty(min(max(BLOCK, 2**22 // size.d_sae), size.batch), size.d_sae)
        self._source, self._copy = torch.randn(2, 8 * MEGABYTE)

    def step(self) -> Seconds:
        """The product timed as it is, the rest as long as a copy of as much would take."""
        product = _timed(self.product)
        copy = _timed(lambda: self._copy.copy_(self._source))
        sparse = 4 * self._size.batch * self._size.k * self._size.d
        adam = 7 * 2 * self._rows.numel()
        n_copies = (sparse + adam) / (2 * self._source.numel())
        return Seconds(*(a + n_copies * b for a, b in zip(product, copy, strict=True)))

    def product(self) -> None:
        for part in self._x.split(len(self._out)):
            torch.mm(part, self._rows.T, out=self._out[: len(part)])


def _timed(run: Callable[[], object]) -> Seconds:
    start, worked = time.perf_counter(), time.process_time()
    run()
    return Seconds(time.perf_counter() - start, time.process_time() - worked)


@dataclass(frozen=True)
class Peer:
    """Another library's trainer, in its own process."""

    process: PeerProcess
    size: Size

    def step(self) -> Seconds:
        done = self.process.run()
        n = done["n_tokens"] / self.size.batch
        return Seconds(done["seconds"] / n, done["processor_seconds"] / n)


def measured(contenders: dict[str, Callable[[], Seconds]], n_rounds: int) -> dict[str, list[Seconds]]:
    """Seconds a step by contender and round, the order rotating from round to round; a first round warms up."""
    found: dict[str, list[Seconds]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(n_rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds = contenders[name]()
            if turn:
                found[name].append(seconds)
    return found


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """The median over rounds."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def step_rows(size: Size, preset: str, peers: Sequence[str], folder: Path) -> list[Row]:
    """One size and preset: ours, the peers that know it, the floor."""
    x = rows(size)
    settings, weights = folder / f"{size.name}_{preset}.json", folder / f"{size.name}_{preset}.npz"
    begin = trained(size, preset, x) if preset in TRAINED else None
    contenders: dict[str, Callable[[], Seconds]] = {"floor": Floor(size, x).step}
    ours = Ours(size, preset, x, begin)
    contenders["ours"] = ours.step
    if preset == "topk":
        contenders["shards"] = Ours(size, preset, x, None, shards(folder / size.name, size)).step
    processes = []
    if peers:
        if begin is not None:
            write_weights(weights, begin)
        given = weights if begin is not None else None
        write_settings(settings, size, preset, x, torch.get_num_threads(), given)
    for name in peers:
        if name == "sparsify" and preset != "topk":
            continue
        try:
            processes.append(PeerProcess(PEERS[name][0], PEERS[name][1], settings))
        except WorldError as error:  # the others are measured without it
            sys.stderr.write(f"{name} is left out: {error}\n")
            continue
        contenders[name] = Peer(processes[-1], size).step
    seconds = measured(contenders, size.n_rounds)
    for process in processes:
        process.close()
    found = _compared(size, preset, seconds)
    if begin is not None:
        with torch.no_grad():
            l0 = float(begin.encode(x[: size.batch]).l0().double().mean())
        target = DENSEST if size.name == "middle" else None
        found.append(row(f"{preset}_{size.name}_l0", l0, "latents a token", "from the same weights", target, most=True))
    return found


def shards(folder: Path, size: Size) -> ShuffledBatches:
    """Shuffled batches of float16 shards; eight to a mixing buffer, which is read again and again."""
    folder.mkdir()
    n_rows = 16 * size.batch
    shape = Shape(size.d, n_rows, n_rows // 4, n_rows // 2, size.batch, n_rounds=1)
    write_shards(folder, shape, block_of(shape))
    write_tokens(folder, shape)
    return ShuffledBatches(Activations(folder), SITE, "train", size.batch, 0, Mixing(n_rows // 2))


def encode_rows(size: Size) -> list[Row]:
    """`Dictionary.encode` beside its product alone."""
    x = rows(size)[: size.batch]
    dictionary = Ours(size, "topk", x).state.dictionary.eval()

    @torch.no_grad()
    def encode() -> Seconds:
        return _timed(lambda: dictionary.encode(x))

    floor = Floor(size, x)
    seconds = measured({"product": lambda: _timed(floor.product), "encode": encode}, 2 * size.n_rounds)
    rates = ([s.wall for s in seconds[name]] for name in ("product", "encode"))
    target = OF_PRODUCT if size.name == "middle" else None
    return [row(f"encode_{size.name}_of_product", ratio(*rates), "ratio of rates", "the encoder product", target)]


def _compared(size: Size, preset: str, seconds: dict[str, list[Seconds]]) -> list[Row]:
    wall = {name: [s.wall for s in each] for name, each in seconds.items()}
    work = {name: [s.processor for s in each] for name, each in seconds.items()}
    label, others = f"{preset}_{size.name}", [name for name in seconds if name in PEERS]
    targets = {name: FASTER_THAN_SPARSIFY.get(size.name) if name == "sparsify" else None for name in others}
    if preset in FASTER_THAN_FASTEST and others:
        fastest = min(others, key=lambda name: statistics.median(wall[name]))
        targets[fastest] = FASTER_THAN_FASTEST[preset] if size.name == "middle" else None
    found = []
    for name in others:
        speed = ratio(wall[name], wall["ours"])
        found.append(row(f"{label}_over_{name}", speed, "ratio of times", f"ours, {name}", targets[name]))
        found.append(row(f"{label}_work_over_{name}", ratio(work[name], work["ours"]), "ratio of processor times"))
    floor = "floor of a TopK step in float32"
    found.append(row(f"{label}_times_floor", ratio(wall["ours"], wall["floor"]), "ratio of times", floor))
    found.append(
        row(f"{label}_work_times_floor", ratio(work["ours"], work["floor"]), "ratio of processor times", floor)
    )
    if "shards" in wall:
        target = OF_MEMORY if size.name == "middle" else None
        rate = ratio(wall["ours"], wall["shards"])
        found.append(row(f"{label}_rate_from_shards", rate, "ratio of rates", "batches in memory", target))
    for name in seconds:
        found.append(row(f"{label}_step_{name}", 1000 * statistics.median(wall[name]), "ms"))
        found.append(row(f"{label}_work_{name}", 1000 * statistics.median(work[name]), "processor ms"))
    return found


@torch.no_grad()
def part_rows(size: Size) -> list[Row]:
    """Where a TopK step's time goes: each of its parts alone, and what the whole takes beside them."""
    x = rows(size)
    ours = Ours(size, "topk", x)
    dictionary, floor, batch = ours.state.dictionary, Floor(size, x), x[: size.batch]
    code = dictionary.encode(batch)
    assert isinstance(code, FixedCode)
    loops, starts = loops_for(batch), torch.arange(size.batch + 1) * size.k
    pairs = Pairs(code.values.flatten(), code.indices.flatten(), starts)
    weights = dictionary.W_dec.detach()
    slots = [Slot(*(torch.rand_like(weights) for _ in range(4)), n_steps=1, unit=True) for _ in range(2)]
    parts: dict[str, Callable[[], object]] = {
        "product": floor.product,
        "encoding": lambda: dictionary.encode(batch),
        "decoding": lambda: dictionary.decode(code),
        "gradient_of_values": lambda: loops.dots(batch, weights, pairs.indices, starts),
        "gradients_of_rows": lambda: [give_back(loops.by_latent(pairs, batch, size.d_sae).rows) for _ in range(2)],
        "adam": lambda: descend(slots, AdamStep(1e-4, 1.0)),
    }
    contenders = {name: lambda run=run: _timed(run) for name, run in parts.items()}

    @torch.enable_grad()
    def step() -> Seconds:
        return ours.step()

    seconds = measured({**contenders, "step": step}, size.n_rounds)
    medians = {name: 1000 * statistics.median(s.wall for s in each) for name, each in seconds.items()}
    medians["selection"] = medians["encoding"] - medians["product"]
    medians["rest"] = medians["step"] - sum(medians[n] for n in parts if n != "product")
    return [row(f"part_{size.name}_{name}", value, "ms") for name, value in medians.items()]


def memory_row(size: Size) -> list[Row]:
    """The peak of a fresh process; nothing where the system does not say."""
    if not Path("/proc/self/status").is_file():
        return []
    command = [sys.executable, __file__, "--peak-of", size.name, "--dead", str(size.dead)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    target = PEAK if size.name == "middle" and not size.dead else None
    return [row(f"memory_{size.name}", float(done.stdout) / MEGABYTE, "MB", "before training", target, most=True)]


def peak_of(size: Size) -> int:
    """Trains in this process: bytes above those held with the activations loaded."""
    x = rows(size)
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    ours = Ours(size, "topk", x)
    for _ in range(3):
        ours.step()
    return resident_bytes("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny size and few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--peers", nargs="?", const=",".join(PEERS), default="", help="all, or these")
    parser.add_argument("--sizes", default=",".join(size.name for size in SIZES))
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--rounds", type=int, help="instead of each size's own number")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--allocator", action="store_true", help="freed memory is kept, by everyone")
    parser.add_argument("--dead", type=float, default=0.0, metavar="SHARE", help="of our latents, dead at every step")
    parser.add_argument("--peak-of", metavar="SIZE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.allocator and any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR)
    sizes = {size.name: replace(size, dead=options.dead) for size in (*SIZES, QUICK)}
    torch.set_num_threads(options.threads)
    if options.peak_of is not None:
        print(peak_of(sizes[options.peak_of]))
        return
    chosen = [sizes["quick"]] if options.quick else [sizes[name] for name in options.sizes.split(",")]
    if options.rounds:
        chosen = [replace(size, n_rounds=options.rounds) for size in chosen]
    peers = [name for name in options.peers.split(",") if name]
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in chosen:
            for preset in options.presets.split(","):
                more = step_rows(size, preset, peers, Path(folder))
                show(more)
                found += more
            if "topk" in options.presets.split(","):
                more = [*encode_rows(size), *part_rows(size), *memory_row(size)]
                show(more)
                found += more
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
