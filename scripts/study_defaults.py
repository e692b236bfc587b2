#!/usr/bin/env python3
"""What each choice of training buys: rates, AuxK, dead windows, first rows, optimisers, batches, lengths, widths.

    python scripts/study_defaults.py [--benches synthetic,microworld,stories,wide] [--groups rate,auxk weight]
                                     [--presets topk] [--seeds 0,1,2] [--minutes N] [--cache DIR] [--runs FILE]
                                     [--only-table] [--quick]

Data are in `study.data`, arms in `study.arms`. Each run is an entry of scripts/study_defaults.json, written when it is
done; what is there is not made again, so the study goes on where it stopped. Runs of the first seed come first, bench
by bench in turn; `--minutes` ends it in time. The table has means over seeds, with half-widths of 95 % intervals by
Student's t where there are three: FVU, share of latents dead on 32,768 held-out rows, MCC with the truth (on `wide` the
mean cosine of each true direction with its nearest latent).
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from kept_runs import runs_of
from study.arms import PRESETS, Arm, arms
from study.data import BENCHES, QUICK, Bench, Rows, rows, stories_are_there
from study.training import measured
from words import minutes, names, new_file, whole_numbers

from sae.core.errors import WorldError

KEPT = Path(__file__).with_suffix(".json")
T_OF_TWO = 4.303
"""Student's t at 0.975 with two degrees of freedom."""
SHOWN = ("fvu", "dead_fraction", "mcc")


class Runs:
    """A file of runs that are done."""

    def __init__(self, file: Path) -> None:
        """Raises WorldError where the file holds no runs."""
        self._file = file
        self.done = runs_of(file, lambda run: bool(run.keys() & {"seconds", "diverged"}), "seconds")

    def add(self, key: str, found: dict[str, Any]) -> None:
        self.done[key] = {name: _short(value) for name, value in found.items()}
        written = self._file.with_suffix(".partial")
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self.done.items())]
        written.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        written.replace(self._file)


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def key_of(bench: Bench, arm: Arm, seed: int) -> str:
    return f"{bench.name}/{arm.key}/seed {seed}"


def table(benches: list[Bench], chosen: list[Arm], runs: Runs) -> str:
    """One line per arm and bench of which something is there."""
    lines = ["| data | preset | choice | | " + " | ".join(SHOWN) + " | seeds |", "|---|---|---|---|" + "---|" * 4]
    for bench in benches:
        for arm in chosen:
            there = [runs.done[k] for s in range(10) if (k := key_of(bench, arm, s)) in runs.done]
            if there:
                numbers = " | ".join(_mean([r[name] for r in there if name in r]) for name in SHOWN)
                lines.append(f"| {bench.name} | {arm.preset} | {arm.group} | {arm.name} | {numbers} | {len(there)} |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    mean = statistics.fmean(values)
    if len(values) < 3:
        return f"{mean:.3g}"
    return f"{mean:.3g} ± {T_OF_TWO * statistics.stdev(values) / len(values) ** 0.5:.1g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = names(*(bench.name for bench in BENCHES))
    parser.add_argument("--benches", default="synthetic,microworld,stories", type=known, help="names of `study.data`")
    groups, arm_names = (list(dict.fromkeys(getattr(arm, of) for arm in arms())) for of in ("group", "name"))
    parser.add_argument("--groups", default=groups, type=names(*groups), help="groups of arms; left out: all")
    parser.add_argument("--names", default=arm_names, type=names(*arm_names), help="names of arms; left out: all")
    parser.add_argument("--presets", default=",".join(PRESETS), type=names(*PRESETS))
    parser.add_argument("--seeds", default="0,1,2", type=whole_numbers(0))
    parser.add_argument("--minutes", type=minutes, default=float("inf"), help="no run is begun after so many")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/sae-study"), help="where the rows are kept")
    parser.add_argument("--runs", type=new_file, default=KEPT, metavar="FILE")
    parser.add_argument("--only-table", action="store_true", help="no run is made")
    parser.add_argument("--quick", action="store_true", help="tiny data and few arms: shows that it runs")
    said = parser.parse_args()
    benches = [QUICK] if said.quick else [b for b in BENCHES if b.name in said.benches]
    chosen = [a for a in arms() if a.preset in said.presets and a.group in said.groups and a.name in said.names]
    if not chosen:
        parser.error("no arm has these names, groups and presets together")
    try:
        runs = Runs(said.runs)
    except WorldError as error:
        parser.error(str(error))
    if not said.only_table:
        _make(benches, chosen, said.seeds, runs, said)
    print(table(benches, chosen, runs))


def _make(benches: list[Bench], chosen: list[Arm], seeds: list[int], runs: Runs, said: argparse.Namespace) -> None:
    end = time.monotonic() + 60 * said.minutes
    found: dict[str, Rows] = {}
    for seed in seeds:
        for arm in chosen:
            for bench in benches:
                key = key_of(bench, arm, seed)
                if key in runs.done or (bench.name == "stories" and not stories_are_there()):
                    continue
                if time.monotonic() > end:
                    return
                if bench.name not in found:
                    found[bench.name] = rows(bench, said.cache.expanduser())
                runs.add(key, measured(arm, found[bench.name], seed))
                sys.stderr.write(f"{key}: {json.dumps(runs.done[key])}\n")


if __name__ == "__main__":
    main()
