#!/usr/bin/env python3
"""How much of a model's residual stream stays unexplained, by ours and by three other libraries, on the same rows.

    python scripts/bench_models.py [--quick] [--json FILE] [--benches microworld,stories,wide] [--peers [NAMES]]
                                   [--presets topk,batchtopk] [--at-defaults] [--seeds 0,1,2] [--runs FOLDER]
                                   [--only-compare] [--minutes N] [--peers-device cuda]

The rows are those of `study.data`: a million of the embedded model's and of a story model's (of fewer than half as many
that repeat), and of a wide known dictionary, which is there for its size (d 512, 8,192 latents). Everybody reads them
in the same order in batches of the same size, at the same l0, and is scored on the same held-out rows: FVU, and the
share of latents that fire at none of them; of the wide dictionary also those that fire at none of ten times as many
(`never_fraction`), since with 8,192 latents of which 32 fire many are rare and not dead. A seed is that of the weights
alone. Every library runs at its default rate, the peers (`--peers`) also at the multiples of `bench_quality.FACTORS`,
on seed 0; seeds 1 and 2 follow at the default and at the best rate, that with the lowest FVU of those that are there.
What a run is called does not say with which version it was made: begin a new folder after a change. Each run is an
entry of a file, one for each bench: ours in the folder `--runs`, the peers' in scripts/peers, which are kept.

Ours at its default stands beside the best peer at its default (`default`), and at the best of its rates (`best`): FVU
at most that peer's, if its l0 is no further off than a tenth, at most 0.10 of the latents dead, by either count. Rows
of the file: {name, value, unit, against, target, holds}; exit status 0 whether or not targets hold.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from bench_quality import SEEDS, WITHIN, LateError, Mean, Until, add_peers, config_of, factors, mean
from bench_reading import Row, row, show
from kept_runs import Run, Runs
from peers.quality import LIBRARIES, PEER_PRESETS, Guess, Recorded, peer_run, write_rows
from study.data import BENCHES, QUICK, Bench, Rows, rows, stories_are_there
from words import folder, minutes, names, new_file, whole_numbers

from sae.core.errors import WorldError
from sae.synthetic.tallies import Coder
from sae.training import initial, loop, result

KEPT = Path(__file__).parent / "peers"
CACHE = Path.home() / ".cache" / "sae-study"
PRESETS = ("topk", "batchtopk")
DEAD = 0.10


class Task(NamedTuple):
    """A bench, as `peers.quality` wants to be told."""

    rows: Rows

    @property
    def bench(self) -> Bench:
        return self.rows.bench

    @property
    def d(self) -> int:
        """Width of a row."""
        return self.rows.train.shape[1]

    @property
    def l0(self) -> int:
        return self.bench.l0

    @property
    def batch(self) -> int:
        return self.bench.batch

    @property
    def n_tokens(self) -> int:
        return self.bench.tokens


class InOrder:
    """The rows of a task by step."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def batch(self, step: int) -> torch.Tensor:
        return self._task.rows.batch(step, self._task.batch)


def ours(task: Task, run: Run) -> tuple[dict[str, Any], Coder]:
    """Trains one of ours at its defaults but for the batch."""
    config = config_of(task, run)
    start = time.perf_counter()
    state = initial(task.rows.sample, config)
    for _ in loop(state, InOrder(task), config):
        pass
    seconds = time.perf_counter() - start
    rate = config.schedule(task.d).peak
    return {"rate": rate, "seconds": round(seconds, 1), "settings": config.hashed()}, result(state)


@torch.no_grad()
def scores(coder: Coder, x: torch.Tensor) -> dict[str, float]:
    """Of rows in the units of the model."""
    error, n_active, fired = 0.0, 0.0, torch.zeros(len(coder.W_dec), dtype=torch.bool)
    for part in x.split(1024):
        code = coder.encode(part)
        error += float((part - coder.decode(code)).double().square().sum())
        n_active += float(code.l0().double().sum())
        fired |= code.fired()
    variance = float((x - x.mean(0)).double().square().sum())
    return {"fvu": error / variance, "dead_fraction": 1 - float(fired.double().mean()), "l0": n_active / len(x)}


def made(task: Task, run: Run, runs: Runs, until: Until) -> None:
    """Makes a run if it is not there.

    Raises:
        LateError: there is no time.
        WorldError: a peer's environment or program failed.
    """
    if run.key in runs.done:
        return
    if time.monotonic() > until.end:
        raise LateError
    test = task.rows.test.float()
    if run.library == "ours":
        found, coder = ours(task, run)
    else:
        folder = until.folder / task.bench.name
        folder.mkdir(exist_ok=True)
        write_rows(folder, task, run.seed, InOrder(task), lambda: test, task.bench.more)
        found = peer_run(run, task, folder, Guess(1.0, final=True), until.device)
        coder = found.pop("coder")
    numbers = scores(coder, test)
    if task.bench.more is not None:
        fired = coder.fired if isinstance(coder, Recorded) else fires(coder, task.bench.more())
        numbers["never_fraction"] = 1 - float(fired.double().mean())
    runs.add(run, found | {"scores": {name: {"value": value} for name, value in numbers.items()}})
    said = ", ".join(f"{name} {value:.4f}" for name, value in numbers.items())
    sys.stderr.write(f"{task.bench.name} {run.key}: {said}, {found['seconds']:.0f} s\n")


@torch.no_grad()
def fires(coder: Coder, parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """Whether a latent fires at any of these rows."""
    fired = torch.zeros(len(coder.W_dec), dtype=torch.bool)
    for x in itertools.chain.from_iterable(part.split(1024) for part in parts):
        fired |= coder.encode(x).fired()
    return fired


class Contender(NamedTuple):
    """A library's runs of one preset on one task."""

    library: str
    preset: str
    task: Task
    runs: Runs

    def run(self, factor: float, seed: int) -> Run:
        return Run(self.library, self.preset, self.task.bench.d_sae, factor, seed)

    def mean(self, factor: float, number: str) -> Mean:
        return mean(self.library, self.preset, self.task.bench.d_sae, factor, self.runs, number)

    def has(self, number: str) -> bool:
        """Whether all that ran at the default have it."""
        there = [found for s in SEEDS if (found := self.runs.done.get(self.run(1.0, s).key))]
        return bool(there) and all(number in found["scores"] for found in there)

    def best(self) -> float | None:
        """The factor of the lowest FVU on seed 0; none where nothing was measured."""
        there = [f for f in (1.0, *factors(self.library, self.preset)) if self.run(f, 0).key in self.runs.done]
        return min(there, key=lambda f: self.runs.value(self.run(f, 0), "fvu"), default=None)


def measure(contender: Contender, seeds: Sequence[int], until: Until, at_defaults: bool) -> None:
    """All its runs; those of the peers' rates first."""
    alone = at_defaults or contender.library == "ours"
    tried = (1.0,) if alone else factors(contender.library, contender.preset)
    for factor in tried:
        made(contender.task, contender.run(factor, 0), contender.runs, until)
    best = 1.0 if alone else contender.best() or 1.0
    for factor, seed in itertools.product(dict.fromkeys([1.0, best]), seeds):
        made(contender.task, contender.run(factor, seed), contender.runs, until)


def compared(own: Contender, peers: Sequence[Contender]) -> list[Row]:
    """Ours at its default beside the best peer, at its default and at its best."""
    if own.best() is None:
        return []
    name = f"{own.task.bench.name}_{own.preset}"
    dead, l0 = own.mean(1.0, "dead_fraction"), own.mean(1.0, "l0")
    found = [
        row(f"{name}_dead_fraction", dead.value, f"share, {dead}", "", DEAD, most=True),
        row(f"{name}_l0", l0.value, f"{l0}, of {own.task.l0}"),
    ]
    there = [peer for peer in peers if peer.has("fvu")]
    if own.has("never_fraction"):
        share = own.mean(1.0, "never_fraction")
        counted = {peer.library: peer.mean(1.0, "never_fraction") for peer in there if peer.has("never_fraction")}
        against = "; ".join(f"{library} {mean}" for library, mean in counted.items())
        found.append(row(f"{name}_never_fraction", share.value, f"share, {share}", against, DEAD, most=True))
    for label in ("default", "best"):
        factor = {peer.library: 1.0 if label == "default" else cast(float, peer.best()) for peer in there}
        others = {peer.library: peer.mean(factor[peer.library], "fvu") for peer in there}
        l0s = {peer.library: peer.mean(factor[peer.library], "l0").value for peer in there}
        against = "; ".join(
            f"{peer.library} {_shown(others[peer.library])}, l0 {l0s[peer.library]:.2f}, dead "
            f"{peer.mean(factor[peer.library], 'dead_fraction').value:.3f}, rate x{factor[peer.library]:g}"
            for peer in there
        )
        value = own.mean(1.0, "fvu")
        equal = [library for library, found_l0 in l0s.items() if abs(found_l0 / own.task.l0 - 1) <= WITHIN]
        least = min((others[library].value for library in equal), default=None)
        found.append(row(f"{name}_fvu_{label}", value.value, f"FVU, {_shown(value)}", against, least, most=True))
    return found


def _shown(mean: Mean) -> str:
    """With three digits that count, as FVUs are small."""
    spread = f" ± {mean.spread:.2g}" if mean.spread == mean.spread else ""
    return f"{mean.value:.3g}{spread} ({mean.n} seed{'s' * (mean.n > 1)})"


def chosen_benches(said: Sequence[str]) -> list[Bench]:
    """Raises WorldError where the story model is wanted and not there."""
    benches = [bench for bench in BENCHES if bench.name in said]
    if any(bench.name == "stories" for bench in benches) and not stories_are_there():
        raise WorldError("the story model and its texts are not there; name other --benches")
    return benches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny data, ours alone: shows that it runs")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="where to write the rows")
    parser.add_argument("--benches", default="microworld,stories,wide", type=names(*(bench.name for bench in BENCHES)))
    add_peers(parser)
    parser.add_argument("--presets", default=",".join(PRESETS), type=names(*PEER_PRESETS["saelens"]))
    parser.add_argument("--at-defaults", action="store_true", help="no other rates: what is large is slow")
    parser.add_argument("--seeds", default="0,1,2", type=whole_numbers(0))
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the rows are kept")
    parser.add_argument("--runs", type=folder, metavar="FOLDER", help="of our runs; those that are there are not made")
    parser.add_argument("--only-compare", action="store_true", help="no run is made")
    parser.add_argument("--minutes", type=minutes, default=float("inf"), help="no run is begun after so many")
    options = parser.parse_args()
    seeds = [0] if options.quick else options.seeds
    try:
        benches = [QUICK] if options.quick else chosen_benches(options.benches)
    except WorldError as error:
        parser.error(str(error))
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        until = Until(Path(name), time.monotonic() + 60 * options.minutes, options.peers_device)
        cache = until.folder if options.quick else options.cache
        (options.runs or until.folder).mkdir(parents=True, exist_ok=True)
        presets: list[str] = options.presets
        for bench, preset in itertools.product(benches, presets):
            try:
                own = Runs((options.runs or until.folder) / f"ours_{bench.name}.json")
                kept = Runs((until.folder if options.quick else KEPT) / f"{bench.name}.json")
                task = Task(rows(bench, cache))
            except WorldError as error:
                parser.error(str(error))
            peers = [Contender(lib, preset, task, kept) for lib in LIBRARIES if preset in PEER_PRESETS[lib]]
            wanted = [peer for peer in peers if peer.library in options.peers]
            contender = Contender("ours", preset, task, own)
            for one in () if options.only_compare else wanted if options.peers else [contender]:
                _in_time(one, seeds, until, options.at_defaults)
            if not options.peers:
                show(more := compared(contender, peers))
                found += more
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _in_time(contender: Contender, seeds: Sequence[int], until: Until, at_defaults: bool) -> None:
    try:
        measure(contender, seeds, until, at_defaults)
    except LateError:
        pass
    except WorldError as error:  # the others are measured without it
        sys.stderr.write(f"{contender.library} {contender.preset} is left out: {error}\n")


if __name__ == "__main__":
    main()
