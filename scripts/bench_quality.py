#!/usr/bin/env python3
"""How much of a known dictionary is found, by ours and by three other libraries, on the same rows.

    python scripts/bench_quality.py [--quick] [--json FILE] [--peers [NAMES]] [--presets topk,relu] [--d-sae 1024,2048]
                                    [--runs FILE] [--only-compare]

The data are the stream of the shape "1024-in-128" (`sae.synthetic`), a million rows; every library's first run, on seed
0, is at its own default rate and at multiples of it; the rate with the highest MCC is chosen, and seeds 1 and 2 are
trained at it and at the default. A seed is that of the weights and names the rows trained on; the truth and the rows
that everything is scored on are the same for all. Each run is one entry of a file of runs, written when it is done: a
run that is there is not made again. Ours go to `--runs`, those of the peers (`--peers`: SAELens, dictionary_learning,
sparsify, in environments of their own) to scripts/peers/quality.json, which is kept; a plain run compares with what is
there. l0 is 6 for all; where a peer has a penalty instead, it is bisected until l0 is within a tenth, at the default
rate on seed 0.

Rows of the file: {name, value, unit, against, target, holds}; exit status 0 whether or not targets hold.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, cast

from bench_reading import Row, row, show
from peers.quality import LIBRARIES, PEER_PRESETS, peer_run

from sae.core.errors import WorldError
from sae.synthetic import Stream, Truth, TruthConfig, TruthScores, controls, shape, truth_scores
from sae.training import TrainConfig, initial, loop, result
from sae.training.config import CONTROLLED, Preset
from sae.training.schedule import automatic_rate

PRESETS = ("topk", "batchtopk", "jumprelu", "relu", "matryoshka")
KEPT = Path(__file__).parent / "peers" / "quality.json"
FACTORS = {
    "ours": (1.0, 0.5, 2.0),
    "saelens": (1.0, 4.0, 12.0, 36.0),
    "dictionary_learning": (1.0, 4.0, 12.0),
    "sparsify": (1.0, 0.3, 0.1),
}
"""Of the default rate. Two peers' are for runs of hundreds of millions of rows, sparsify's kills latents here."""
SEEDS = (0, 1, 2)
T_OF_TWO = 4.303
"""Student's t at 0.975 with two degrees of freedom."""
COMPARED = ("mcc", "f1")


class Task(NamedTuple):
    """The data and the sizes."""

    name: str
    truth: TruthConfig
    n_tokens: int
    batch: int
    l0: int
    d_sae: tuple[int, ...]


FULL = Task("1024_in_128", shape("1024-in-128"), 1_000_000, 1024, 6, (1024, 2048))
QUICK = Task(
    "quick", TruthConfig(d=16, n_features=32, highest=0.2, lowest=0.02, n_trees=1, depth=1), 8192, 256, 2, (32,)
)


class Run(NamedTuple):
    """One dictionary to train; its name is its key in the file of runs."""

    library: str
    preset: str
    d_sae: int
    factor: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.library}/{self.preset}/{self.d_sae}/rate x{self.factor:g}/seed {self.seed}"


class Runs:
    """A file of runs that are done."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.done: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def add(self, run: Run, found: dict[str, Any]) -> None:
        self.done[run.key] = found
        written = self._file.with_suffix(".partial")
        written.write_text(json.dumps(self.done, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        written.replace(self._file)

    def value(self, run: Run, number: str) -> float:
        return self.done[run.key]["scores"][number]["value"]


def ours(task: Task, run: Run, stream: Stream, test: Stream) -> dict[str, Any]:
    """Trains and scores one of ours."""
    rate = run.factor * automatic_rate(task.truth.d, task.batch, run.preset in CONTROLLED)
    config = TrainConfig(
        preset=cast(Preset, run.preset),
        d_sae=run.d_sae,
        l0=task.l0,
        tokens=task.n_tokens,
        batch=task.batch,
        learning_rate="auto" if run.factor == 1 else rate,
        seed=run.seed,
    )
    start = time.perf_counter()
    state = initial(stream.rows(0, 16 * task.batch), config)
    for _ in loop(state, stream, config):
        pass
    seconds = time.perf_counter() - start
    scores = truth_scores(test, result(state), n_scored(task))
    return {"rate": rate, "seconds": round(seconds, 1), "settings": config.hashed(), **written(scores)}


def n_scored(task: Task) -> int:
    return 32_768 if task is FULL else 2048


def written(scores: TruthScores) -> dict[str, Any]:
    """Scores as the file has them."""
    numbers = {
        name: {"value": e.value, "low": e.interval and e.interval.low, "high": e.interval and e.interval.high}
        for name, e in scores.numbers.items()
    }
    return {"scores": numbers, "n_rows_scored": scores.n_rows}


def made(task: Task, run: Run, runs: Runs, folder: Path) -> None:
    """Makes a run if it is not there."""
    if run.key in runs.done:
        return
    truth = Truth(task.truth)
    stream, test = truth.stream(f"train {run.seed}", task.batch), truth.stream("test")
    if run.library == "ours":
        found = ours(task, run, stream, test)
    else:
        penalty = _penalty(run, runs)
        found = peer_run(run, task, stream, test, folder, penalty)
        scores = truth_scores(test, found.pop("coder"), n_scored(task))
        found |= written(scores)
    runs.add(run, found)
    numbers = ", ".join(f"{name} {runs.value(run, name):.3f}" for name in ("mcc", "f1", "l0", "dead_fraction", "fvu"))
    sys.stderr.write(f"{run.key}: {numbers}, {found['seconds']:.0f} s\n")


def _penalty(run: Run, runs: Runs) -> float | None:
    """What was bisected at the default rate on seed 0; none before that."""
    first = Run(run.library, run.preset, run.d_sae, 1.0, 0)
    return runs.done.get(first.key, {}).get("penalty")


def chosen(library: str, preset: str, d_sae: int, runs: Runs) -> float | None:
    """The factor with the highest MCC on seed 0; none where nothing was measured."""
    there = [f for f in FACTORS[library] if Run(library, preset, d_sae, f, 0).key in runs.done]
    return max(there, key=lambda f: runs.value(Run(library, preset, d_sae, f, 0), "mcc"), default=None)


def measure(task: Task, library: str, preset: str, d_sae: int, runs: Runs, folder: Path) -> None:
    """All runs of one library, preset and width."""
    for factor in FACTORS[library]:
        made(task, Run(library, preset, d_sae, factor, 0), runs, folder)
    best = chosen(library, preset, d_sae, runs)
    for factor in dict.fromkeys([best or 1.0, 1.0]):
        for seed in SEEDS:
            made(task, Run(library, preset, d_sae, factor, seed), runs, folder)


class Mean(NamedTuple):
    """Over seeds, with a 95 % interval by Student's t where there are three."""

    value: float
    spread: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.spread:.3f} ({self.n} seeds)" if self.n > 1 else f"{self.value:.3f} (1 seed)"


def mean(library: str, preset: str, d_sae: int, factor: float, runs: Runs, number: str) -> Mean:
    there = [run for s in SEEDS if (run := Run(library, preset, d_sae, factor, s)).key in runs.done]
    values = [runs.value(run, number) for run in there]
    spread = T_OF_TWO * statistics.stdev(values) / len(values) ** 0.5 if len(values) == len(SEEDS) else float("nan")
    return Mean(statistics.fmean(values), spread, len(values))


def compared(task: Task, preset: str, d_sae: int, own: Runs, kept: Runs) -> list[Row]:
    """Ours at the best rate and at the default beside the peers at theirs."""
    found: list[Row] = []
    for label in ("best", "default"):
        for number in COMPARED:
            others = {}
            for library in LIBRARIES:
                factor = chosen(library, preset, d_sae, kept)
                if factor is not None:
                    others[library] = mean(library, preset, d_sae, factor if label == "best" else 1.0, kept, number)
            factor = (chosen("ours", preset, d_sae, own) or 1.0) if label == "best" else 1.0
            value = mean("ours", preset, d_sae, factor, own, number)
            against = "; ".join(f"{name} {other}" for name, other in others.items())
            target = max((other.value for other in others.values()), default=None)
            name = f"{preset}_{d_sae}_{number}_{label}"
            found.append(row(name, value.value, f"{number}, {value}, rate x{factor:g}", against, target))
    for number in ("dead_fraction", "l0", "fvu", "found", "uniqueness", "absorbed"):
        factor = chosen("ours", preset, d_sae, own) or 1.0
        value = (
            mean("ours", preset, d_sae, factor, own, number) if _defined(own, preset, d_sae, factor, number) else None
        )
        if value is not None:
            found.append(row(f"{preset}_{d_sae}_{number}", value.value, f"{number}, {value}"))
    return found


def _defined(own: Runs, preset: str, d_sae: int, factor: float, number: str) -> bool:
    return own.done[Run("ours", preset, d_sae, factor, 0).key]["scores"][number]["value"] is not None


def control_rows(task: Task, d_sae: int) -> list[Row]:
    """Random rows, and the true directions read by their products."""
    found = controls(Truth(task.truth).stream("test"), d_sae, task.l0, n_scored(task))
    return [row(f"{name}_{d_sae}_{n}", scores[n], n) for name, scores in found.items() for n in COMPARED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny data, ours alone: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--runs", type=Path, metavar="FILE", help="file of our runs; those that are there are not made")
    parser.add_argument("--peers", nargs="?", const=",".join(LIBRARIES), default="", help="measure all, or these")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--d-sae", default="", help="widths of the dictionaries; left out: all of the task")
    parser.add_argument("--only-compare", action="store_true", help="no run is made")
    options = parser.parse_args()
    task = QUICK if options.quick else FULL
    widths = tuple(int(width) for width in options.d_sae.split(",") if width) or task.d_sae
    with tempfile.TemporaryDirectory() as folder:
        own, kept = (
            Runs(options.runs or Path(folder) / "runs.json"),
            Runs(Path(folder) / "none" if options.quick else KEPT),
        )
        found: list[Row] = []
        for d_sae in widths:
            for preset in options.presets.split(","):
                for library in [name for name in options.peers.split(",") if name]:
                    _measure_peer(task, library, preset, d_sae, kept, Path(folder))
                if options.peers:
                    continue
                if not options.only_compare:
                    measure(task, "ours", preset, d_sae, own, Path(folder))
                more = compared(task, preset, d_sae, own, kept)
                show(more)
                found += more
            if not options.peers:
                more = control_rows(task, d_sae)
                show(more)
                found += more
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _measure_peer(task: Task, library: str, preset: str, d_sae: int, kept: Runs, folder: Path) -> None:
    if preset not in PEER_PRESETS[library]:
        return
    try:
        measure(task, library, preset, d_sae, kept, folder)
    except WorldError as error:  # the others are measured without it
        sys.stderr.write(f"{library} {preset} is left out: {error}\n")


if __name__ == "__main__":
    main()
