#!/usr/bin/env python3
"""How long training takes to reach what the best of three other libraries reaches after a million rows.

    python scripts/bench_convergence.py [--quick] [--json FILE] [--sizes small,middle] [--peers saelens,sparsify]
                                        [--threads N] [--seed N]

The rows are a stream of a known dictionary (`sae.synthetic`), written to one file that everybody trains from; every
library trains a TopK dictionary at its own defaults, the peers in batches of 2,048 rows (middle: 4,096), in its own
environment (scripts/peers), and is scored on the same 32,768 rows. The best is the one with the lowest FVU. Ours then
trains at its defaults, its batch of 1,024 rows included, on the first half, third, quarter, … of those rows; the
shortest of these runs whose FVU is no higher, and whose dead fraction is at most 0.10 or the peer's, is what counts:
its time over the time of the best. Times are of training alone, all runs one after the other, so a machine that is not
quiet disturbs them. Rows of the file: {name, value, unit, against, target, holds}; exit status 0 whether or not targets
hold.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from bench_reading import Row, row, show
from bench_train import Pool
from peers.quality import LIBRARIES, Guess, peer_run

from sae.core.errors import WorldError
from sae.synthetic import Truth, TruthConfig, shape, truth_scores
from sae.training import TrainConfig, initial, loop, result

N_SCORED = 32_768
SHARES = (1, 2, 3, 4, 5, 6, 8, 16, 32)
"""Ours trains on one so-manieth of the rows."""
TARGET, DEAD = 0.25, 0.10


class Size(NamedTuple):
    """The data and the dictionaries."""

    name: str
    truth: TruthConfig
    d_sae: int
    batch: int
    """Of the peers, and of ours where the data are tiny."""
    l0: int
    n_tokens: int = 1_000_000
    n_scored: int = N_SCORED

    @property
    def d(self) -> int:
        """Width of a row."""
        return self.truth.d


SMALL = Size("small", shape("2048-in-256"), d_sae=4096, batch=2048, l0=16)
MIDDLE = Size("middle", shape("2048-in-256").model_copy(update={"d": 512, "n_features": 4096}), 8192, 4096, 32)
QUICK = Size(
    "quick", TruthConfig(d=16, n_features=32, highest=0.2, lowest=0.02, n_trees=1, depth=1), 32, 256, 2, 16_384, 2048
)


@dataclass(frozen=True)
class Trained:
    """A run and what came of it."""

    seconds: float
    fvu: float
    dead: float
    n_tokens: int

    def reaches(self, other: "Trained") -> bool:
        """Whether this is as good as the other."""
        return self.fvu <= other.fvu and self.dead <= max(DEAD, other.dead)


class _Run(NamedTuple):
    """As `peers.quality` wants to be told."""

    library: str
    d_sae: int
    seed: int
    preset: str = "topk"
    factor: float = 1.0


def of_peer(library: str, size: Size, seed: int, folder: Path) -> Trained:
    """Trains a peer's dictionary; its rows are left in the folder."""
    test = Truth(size.truth).stream("test")
    found = peer_run(_Run(library, size.d_sae, seed), size, folder, Guess(1.0, final=True))
    scores = truth_scores(test, found["coder"], size.n_scored)
    return Trained(found["training_seconds"], scores["fvu"], scores["dead_fraction"], size.n_tokens)


def of_ours(size: Size, share: int, seed: int, train: torch.Tensor) -> Trained:
    """Trains ours on the first rows of what the peers had."""
    n = size.n_tokens // share
    batch = min(size.batch, TrainConfig.model_fields["batch"].default)
    config = TrainConfig(preset="topk", d_sae=size.d_sae, l0=size.l0, tokens=n, batch=batch, seed=seed)
    start = time.perf_counter()
    state = initial(train[: 16 * config.batch], config)
    for _ in loop(state, Pool(train, config.batch), config):
        pass
    seconds = time.perf_counter() - start
    scores = truth_scores(Truth(size.truth).stream("test"), result(state), size.n_scored)
    return Trained(seconds, scores["fvu"], scores["dead_fraction"], n)


def write_rows(size: Size, seed: int, folder: Path) -> torch.Tensor:
    """The rows that everybody trains on, where the peers' programs look for them."""
    stream = Truth(size.truth).stream(f"train {seed}", size.batch)
    rows = torch.cat([stream.batch(step) for step in range(size.n_tokens // size.batch)])
    np.save(folder / f"train_{seed}.npy", rows.numpy())
    np.save(folder / "test.npy", Truth(size.truth).stream("test").rows(0, N_SCORED).numpy())
    return rows


def size_rows(size: Size, libraries: list[str], seed: int, folder: Path) -> list[Row]:
    """Everybody at one size."""
    train, peers, found = write_rows(size, seed, folder), {}, []
    for library in libraries:
        try:
            peers[library] = of_peer(library, size, seed, folder)
        except WorldError as error:  # the others are measured without it
            sys.stderr.write(f"{library} is left out: {error}\n")
            continue
        found += _of_run(f"{size.name}_{library}", peers[library])
    ours = [of_ours(size, share, seed, train) for share in SHARES if size.n_tokens // share >= 16 * size.batch]
    for run in ours:
        found += _of_run(f"{size.name}_ours_{run.n_tokens}", run)
    if not peers:
        return found
    best = min(peers, key=lambda library: peers[library].fvu)
    enough = [run for run in ours if run.reaches(peers[best])]
    target = None if size is QUICK else TARGET
    name, unit = f"{size.name}_time_to_fvu", "ratio of times"
    if not enough:
        more = ours[0].seconds / peers[best].seconds
        return [*found, row(name, more, f"{unit}, and not reached", f"ours, {best}", target and 0.0, most=True)]
    share = min(run.seconds for run in enough) / peers[best].seconds
    return [*found, row(name, share, unit, f"ours, {best}", target, most=True)]


def _of_run(name: str, run: Trained) -> list[Row]:
    said = {"seconds": (run.seconds, "s"), "fvu": (run.fvu, ""), "dead_fraction": (run.dead, "")}
    return [row(f"{name}_{number}", value, unit, f"{run.n_tokens:,} rows") for number, (value, unit) in said.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny data, ours alone: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--sizes", default="small", help="small, middle (half an hour) or both")
    parser.add_argument("--peers", default=",".join(LIBRARIES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = {size.name: size for size in (SMALL, MIDDLE)}
    if not set(options.sizes.split(",")) <= set(sizes):
        parser.error(f"--sizes {options.sizes}: there are {', '.join(sizes)}")
    chosen = [QUICK] if options.quick else [sizes[name] for name in options.sizes.split(",")]
    libraries = [] if options.quick else [name for name in options.peers.split(",") if name]
    found: list[Row] = []
    for size in chosen:
        with tempfile.TemporaryDirectory() as folder:
            more = size_rows(size, libraries, options.seed, Path(folder))
        show(more)
        found += more
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
