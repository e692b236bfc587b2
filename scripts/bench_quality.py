#!/usr/bin/env python3
"""How much of a known dictionary is found, by ours and by three other libraries, on the same rows.

    python scripts/bench_quality.py [--quick] [--json FILE] [--peers [NAMES]] [--presets topk,relu] [--d-sae 1024,2048]
                                    [--runs FILE] [--only-compare] [--minutes N] [--workers N] [--peers-device cuda]

The data are the stream of the shape "1024-in-128" (`sae.synthetic`), a million rows; every library's first run, on seed
0, is at its own default rate and at multiples of it; the rate with the highest MCC is chosen, and seeds 1 and 2 are
trained at it and at the default. Ours are trained in several processes, of one thread each: a second thread makes a run
of this size 1.3 to 1.5 times as fast, a second process does two. Three or four multiples are tried: a coarse grid, cut
for time (`FACTORS`, `OTHER_FACTORS`), so a peer's best may lie between or beyond. A seed is that of the weights and
names the rows trained on; the truth and the rows that everything is scored on are the same for all. Each run is one
entry of a file of runs, written when it is done: a run that is there is not made again, and several processes may share
a file. Ours go to `--runs`, those of the peers (`--peers`: SAELens, dictionary_learning, sparsify, in environments of
their own) to scripts/peers/quality.json, which is kept; a plain run compares with what is there. l0 is 6 for all; where
a peer has a penalty instead, one is sought for every rate on seed 0 until l0 is within a tenth, and kept for the other
seeds; a run's `tries` say which were made. A peer that comes no nearer is shown and is no target.

Rows of the file: {name, value, unit, against, target, holds}; exit status 0 whether or not targets hold.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from bench_reading import Row, row, show
from kept_runs import Run, Runs
from peers.quality import LIBRARIES, PEER_PRESETS, Guess, devices, peer_run, write_rows
from words import minutes, names, new_file, whole_number, whole_numbers

from sae.core.errors import WorldError
from sae.synthetic import Stream, Truth, TruthConfig, TruthScores, controls, shape, truth_scores
from sae.training import TrainConfig, initial, loop, result
from sae.training.config import Preset

PRESETS = ("topk", "batchtopk", "jumprelu", "relu", "matryoshka")
KEPT = Path(__file__).parent / "peers" / "quality.json"
FACTORS = {
    "ours": (1.0, 0.5, 2.0),
    "saelens": (1.0, 12.0, 36.0),
    "dictionary_learning": (1.0, 4.0, 12.0),
    "sparsify": (1.0, 0.3, 0.1),
}
"""Of the default rate. Two peers' are for runs of hundreds of millions of rows, sparsify's kills latents here."""
OTHER_FACTORS = {
    ("saelens", "topk"): (1.0, 4.0, 12.0, 36.0),
    ("saelens", "relu"): (1.0, 4.0, 12.0),
    ("saelens", "jumprelu"): (1.0, 4.0, 12.0, 36.0),
    ("dictionary_learning", "relu"): (1.0, 0.3, 4.0),
    ("dictionary_learning", "jumprelu"): (1.0, 12.0, 48.0),
}
"""Where a preset's default is another one, or a penalty has to be sought for each."""
SEEDS = (0, 1, 2)
T_OF_TWO = 4.303
"""Student's t at 0.975 with two degrees of freedom."""
COMPARED = ("mcc", "f1")
WITHIN = 0.11
"""Of l0; a hair more than what is sought on seed 0, for the other seeds."""


class Task(NamedTuple):
    """The data and the sizes."""

    name: str
    truth: TruthConfig
    n_tokens: int
    batch: int
    l0: int
    d_sae: tuple[int, ...]
    n_scored: int
    """Rows that everything is scored on."""

    @property
    def d(self) -> int:
        """Width of a row."""
        return self.truth.d


FULL = Task("1024_in_128", shape("1024-in-128"), 1_000_000, 1024, 6, (1024, 2048), 32_768)
QUICK = Task(
    "quick", TruthConfig(d=16, n_features=32, highest=0.2, lowest=0.02, n_trees=1, depth=1), 8192, 256, 2, (32,), 2048
)


def config_of(task: Any, run: Run) -> TrainConfig:
    """Ours at its defaults; the task has `n_tokens`, `batch` and `l0`."""
    return TrainConfig(
        preset=cast(Preset, run.preset),
        d_sae=run.d_sae,
        l0=task.l0,
        tokens=task.n_tokens,
        batch=task.batch,
        seed=run.seed,
    )


def ours(task: Task, run: Run, stream: Stream, test: Stream) -> dict[str, Any]:
    """Trains and scores one of ours."""
    config = config_of(task, run)
    rate = run.factor * config.schedule(task.truth.d).peak
    if run.factor != 1:
        config = config.model_copy(update={"learning_rate": rate})
    start = time.perf_counter()
    state = initial(stream.rows(0, 16 * task.batch), config)
    for _ in loop(state, stream, config):
        pass
    seconds = time.perf_counter() - start
    scores = truth_scores(test, result(state), task.n_scored)
    return {"rate": rate, "seconds": round(seconds, 1), "settings": config.hashed(), **written(scores)}


def written(scores: TruthScores) -> dict[str, Any]:
    """Scores as the file has them."""
    numbers = {
        name: {"value": e.value, "low": e.interval and e.interval.low, "high": e.interval and e.interval.high}
        for name, e in scores.numbers.items()
    }
    return {"scores": numbers, "n_rows_scored": scores.n_rows}


class LateError(Exception):
    """No time is left for another run."""


class Until(NamedTuple):
    """Where runs are made, and until when."""

    folder: Path
    """For rows and what peers write."""
    end: float
    """Monotonic seconds."""
    device: str = "cpu"
    """Where peers train."""


def factors(library: str, preset: str) -> tuple[float, ...]:
    """Multiples of the default rate that are tried."""
    return OTHER_FACTORS.get((library, preset), FACTORS[library])


def made(task: Task, run: Run, runs: Runs, until: Until) -> None:
    """Makes a run if it is not there.

    Raises:
        LateError: there is no time.
    """
    if run.key in runs.done:
        return
    if time.monotonic() > until.end:
        raise LateError
    truth = Truth(task.truth)
    stream, test = truth.stream(f"train {run.seed}", task.batch), truth.stream("test")
    if run.library == "ours":
        found = ours(task, run, stream, test)
    else:
        write_rows(until.folder, task, run.seed, stream, lambda: test.rows(0, 32_768))
        found = peer_run(run, task, until.folder, _penalty(run, runs), until.device)
        scores = truth_scores(test, found.pop("coder"), task.n_scored)
        found |= written(scores)
    runs.add(run, found)
    numbers = ", ".join(f"{name} {runs.value(run, name):.3f}" for name in ("mcc", "f1", "l0", "dead_fraction", "fvu"))
    sys.stderr.write(f"{run.key}: {numbers}, {found['seconds']:.0f} s\n")


def _penalty(run: Run, runs: Runs) -> Guess:
    """What seed 0 found at this rate; before that what it found at another, to begin with."""
    there = {f: runs.done[key] for f in factors(run.library, run.preset) if (key := _first(run, f)) in runs.done}
    if run.factor in there:
        return Guess(there[run.factor]["penalty"], final=True)
    return Guess(next(reversed(there.values()))["penalty"] if there else 1.0, final=False)


def _first(run: Run, factor: float) -> str:
    return run._replace(factor=factor, seed=0).key


def chosen(library: str, preset: str, d_sae: int, runs: Runs) -> float | None:
    """The factor with the highest MCC on seed 0; none where nothing was measured."""
    there = [f for f in factors(library, preset) if Run(library, preset, d_sae, f, 0).key in runs.done]
    return max(there, key=lambda f: runs.value(Run(library, preset, d_sae, f, 0), "mcc"), default=None)


def measure(task: Task, library: str, preset: str, d_sae: int, runs: Runs, until: Until) -> None:
    """All runs of one library, preset and width."""
    for factor in factors(library, preset):
        made(task, Run(library, preset, d_sae, factor, 0), runs, until)
    best = chosen(library, preset, d_sae, runs)
    for factor in dict.fromkeys([best or 1.0, 1.0]):
        for seed in SEEDS:
            made(task, Run(library, preset, d_sae, factor, seed), runs, until)


class Mean(NamedTuple):
    """Over seeds, with a 95 % interval by Student's t where there are three."""

    value: float
    spread: float
    n: int

    def __str__(self) -> str:
        spread = f" ± {self.spread:.3f}" if self.n == len(SEEDS) else ""
        return f"{self.value:.3f}{spread} ({self.n} seed{'s' * (self.n > 1)})"


def mean(library: str, preset: str, d_sae: int, factor: float, runs: Runs, number: str) -> Mean:
    there = [run for s in SEEDS if (run := Run(library, preset, d_sae, factor, s)).key in runs.done]
    values = [runs.value(run, number) for run in there]
    spread = T_OF_TWO * statistics.stdev(values) / len(values) ** 0.5 if len(values) == len(SEEDS) else float("nan")
    return Mean(statistics.fmean(values), spread, len(values))


def compared(preset: str, d_sae: int, own: Runs, kept: Runs) -> list[Row]:
    """Ours at the best rate and at the default beside the peers at theirs; a peer of another l0 is no target."""
    if chosen("ours", preset, d_sae, own) is None:
        return []
    found: list[Row] = []
    for label in ("best", "default"):

        def factor(library: str, runs: Runs, label: str = label) -> float:
            return (chosen(library, preset, d_sae, runs) or 1.0) if label == "best" else 1.0

        there = [library for library in LIBRARIES if chosen(library, preset, d_sae, kept) is not None]
        beside = {library: factor(library, kept) for library in there}
        equal = [lib for lib, f in beside.items() if _near(mean(lib, preset, d_sae, f, kept, "l0").value)]
        for number in COMPARED:
            others = {lib: mean(lib, preset, d_sae, f, kept, number) for lib, f in beside.items()}
            value = mean("ours", preset, d_sae, factor("ours", own), own, number)
            against = "; ".join(
                f"{lib} {other}, rate x{beside[lib]:g}{'' if lib in equal else ', not at this l0'}"
                for lib, other in others.items()
            )
            target = max((others[lib].value for lib in equal), default=None)
            name, unit = f"{preset}_{d_sae}_{number}_{label}", f"{number}, {value}, rate x{factor('ours', own):g}"
            found.append(row(name, value.value, unit, against, target))
        for number in ("dead_fraction", "l0", "fvu", "found", "uniqueness", "absorbed"):
            if _defined(own, preset, d_sae, factor("ours", own), number):
                value = mean("ours", preset, d_sae, factor("ours", own), own, number)
                found.append(row(f"{preset}_{d_sae}_{number}_{label}", value.value, f"{number}, {value}"))
    return found


def _defined(own: Runs, preset: str, d_sae: int, factor: float, number: str) -> bool:
    return own.done[Run("ours", preset, d_sae, factor, 0).key]["scores"][number]["value"] is not None


def _near(l0: float) -> bool:
    """Whether it is what all are asked for; TopK may have fewer, where pre-activations are negative."""
    return abs(l0 / FULL.l0 - 1) <= WITHIN


def control_rows(task: Task, d_sae: int) -> list[Row]:
    """Random rows, and the true directions read by their products."""
    found = controls(Truth(task.truth).stream("test"), d_sae, task.l0, task.n_scored)
    return [row(f"{name}_{d_sae}_{n}", scores[n], n) for name, scores in found.items() for n in COMPARED]


def add_peers(parser: argparse.ArgumentParser) -> None:
    """Which peers are measured, and where."""
    every = ",".join(LIBRARIES)
    parser.add_argument(
        "--peers", nargs="?", const=every, default=[], type=names(*LIBRARIES), help="measure all, or these"
    )
    parser.add_argument(
        "--peers-device", choices=devices(), default="cpu", help="where they train, in float32: cpu or cuda"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny data, ours alone: shows that it runs")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="where to write the rows")
    parser.add_argument("--runs", type=new_file, metavar="FILE", help="of our runs; those that are there are not made")
    add_peers(parser)
    parser.add_argument("--presets", default=",".join(PRESETS), type=names(*PRESETS))
    parser.add_argument(
        "--d-sae", default=[], type=whole_numbers(1), help="of the dictionaries; left out: all of the task"
    )
    parser.add_argument("--only-compare", action="store_true", help="no run is made")
    parser.add_argument("--minutes", type=minutes, default=float("inf"), help="no run is begun after so many")
    parser.add_argument(
        "--workers", type=whole_number, default=torch.get_num_threads(), help="processes; left out: one a core"
    )
    options = parser.parse_args()
    task = QUICK if options.quick else FULL
    widths: Sequence[int] = options.d_sae or task.d_sae
    if min(widths) < task.l0:
        parser.error(f"argument --d-sae: {min(widths)} has fewer latents than l0, {task.l0}")
    presets: list[str] = options.presets
    with tempfile.TemporaryDirectory() as folder:
        until = Until(Path(folder), time.monotonic() + 60 * options.minutes, options.peers_device)
        file = options.runs or until.folder / "runs.json"
        try:
            own, kept = Runs(file), Runs(until.folder / "none" if options.quick else KEPT)
        except WorldError as error:
            parser.error(str(error))
        found: list[Row] = []
        if not options.peers and not options.only_compare:
            _train(task, presets, widths, file, until, options.workers)
            own = Runs(file)
        for d_sae, preset in itertools.product(widths, presets):
            for library in options.peers:
                _measure_peer(task, library, preset, d_sae, kept, until)
            if not options.peers:
                found += _shown(compared(preset, d_sae, own, kept))
        for d_sae in () if options.peers else widths:
            found += _shown(control_rows(task, d_sae))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _shown(more: list[Row]) -> list[Row]:
    show(more)
    return more


def _train(task: Task, presets: Sequence[str], widths: Sequence[int], file: Path, until: Until, n: int) -> None:
    """Makes all of ours, in n processes; the wide ones, which take longest, first."""
    jobs = list(itertools.product(sorted(set(widths), reverse=True), dict.fromkeys(presets)))
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(n, len(jobs)), fresh, _begin_worker) as workers:
        try:
            begun = [workers.submit(_own, task, preset, d_sae, file, until) for d_sae, preset in jobs]
            for done in as_completed(begun):
                done.result()
        except BaseException:  # what waits is not begun
            workers.shutdown(wait=False, cancel_futures=True)
            raise


def _begin_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else it would end a run, and go on with the next
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would train on for many minutes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _own(task: Task, preset: str, d_sae: int, file: Path, until: Until) -> None:
    _in_time(task, "ours", preset, d_sae, Runs(file), until)


def _in_time(task: Task, library: str, preset: str, d_sae: int, runs: Runs, until: Until) -> None:
    with contextlib.suppress(LateError):
        measure(task, library, preset, d_sae, runs, until)


def _measure_peer(task: Task, library: str, preset: str, d_sae: int, kept: Runs, until: Until) -> None:
    if preset not in PEER_PRESETS[library]:
        return
    try:
        _in_time(task, library, preset, d_sae, kept, until)
    except WorldError as error:  # the others are measured without it
        sys.stderr.write(f"{library} {preset} is left out: {error}\n")


if __name__ == "__main__":
    main()
