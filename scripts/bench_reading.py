#!/usr/bin/env python3
"""What reading and editing cost beside a bare Hugging Face model: GPT-2-small's shape, random weights, this processor.

    python scripts/bench_reading.py [--quick] [--json FILE]

Time: a round is bare, ours, ours, bare, back to back, so load that comes and goes, or grows, meets both alike; a ratio
is the median over rounds of what the two bare passes took over what our two took, beside it the quartiles over rounds;
the floor is the bare pass against itself, in the same rounds: what it is off 1 is the machine's doing.
Memory: resident memory at its peak, and whether it grows from batch to batch. Rows of the file:
{name, value, unit, against, target, holds}; exit status 0 whether or not targets hold.
"""

import argparse
import ctypes
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sae.lm import Context, editing, reading

M_MMAP_THRESHOLD = -3
"""glibc's number for `mallopt`."""
N_BATCHES = 50


@dataclass(frozen=True)
class Shape:
    """The model, the batch, and how often."""

    n_layers: int
    d_model: int
    n_heads: int
    n_vocab: int
    n_texts: int
    n_tokens: int
    n_rounds: int

    @property
    def sites(self) -> list[str]:
        """Three sites, the last of them the one that is also read alone."""
        return [f"blocks.{self.n_layers * part // 4 - 1}.resid_post" for part in (1, 2, 3)]


GPT2_SMALL = Shape(n_layers=12, d_model=768, n_heads=12, n_vocab=50257, n_texts=2, n_tokens=128, n_rounds=15)
QUICK = Shape(n_layers=4, d_model=64, n_heads=4, n_vocab=512, n_texts=4, n_tokens=64, n_rounds=3)


class _Reached(BaseException):
    pass


class Passes:
    """The contenders: each call is one forward pass."""

    def __init__(self, shape: Shape) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        config = GPT2Config(
            n_layer=shape.n_layers,
            n_embd=shape.d_model,
            n_head=shape.n_heads,
            vocab_size=shape.n_vocab,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.model = GPT2LMHeadModel(config).eval().requires_grad_(False)
        self.ids = torch.randint(shape.n_vocab, (shape.n_texts, shape.n_tokens))
        self.sites = shape.sites
        self._last = self.model.get_submodule(f"transformer.h.{shape.n_layers * 3 // 4 - 1}")
        self._step = torch.randn(shape.d_model)

    def _forward(self) -> Any:
        return self.model(input_ids=self.ids, use_cache=False)

    def bare_until_block(self) -> Tensor:
        """A hook that keeps the block's output and raises."""
        kept: list[Tensor] = []

        def keep(_: nn.Module, args: Any, output: Tensor) -> None:
            kept.append(output)
            raise _Reached

        handle = self._last.register_forward_hook(keep)
        with torch.no_grad(), suppress(_Reached):
            self._forward()
        handle.remove()
        return kept[0]

    def one_site(self) -> dict[str, Tensor]:
        with reading(self.model, self.sites[-1:]) as captured:
            self._forward()
        return captured

    def three_sites(self) -> dict[str, Tensor]:
        with reading(self.model, self.sites) as captured:
            self._forward()
        return captured

    def bare(self) -> Tensor:
        with torch.no_grad():
            return self._forward().logits

    def addition(self) -> Tensor:
        def add(x: Tensor, context: Context) -> Tensor:
            return x + self._step

        with torch.no_grad(), editing(self.model, {self.sites[1]: add}):
            return self._forward().logits


Row = dict[str, Any]


def row(name: str, value: float, unit: str, against: str = "", target: float | None = None, most: bool = False) -> Row:
    """A row; a target is the least value that holds, or the most."""
    holds = None if target is None else (value <= target if most else value >= target)
    return {"name": name, "value": value, "unit": unit, "against": against, "target": target, "holds": holds}


@dataclass(frozen=True)
class Contest:
    """A contender beside a bare pass."""

    name: str
    ours: Callable[[], object]
    bare: Callable[[], object]
    against: str
    target: float | None = None


def contests_of(passes: Passes) -> list[Contest]:
    until, raises = passes.bare_until_block, "bare forward that raises at the same block"
    return [
        Contest("reading_one_site", passes.one_site, until, raises, 0.97),
        Contest("reading_three_sites", passes.three_sites, until, raises, 0.92),
        Contest("editing_addition", passes.addition, passes.bare, "plain full forward", 0.95),
        Contest("floor_until_block", until, until, "itself"),
        Contest("floor_full", passes.bare, passes.bare, "itself"),
    ]


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_rows(contests: Sequence[Contest], n_rounds: int) -> list[Row]:
    bare: dict[str, list[float]] = {contest.name: [] for contest in contests}
    ours: dict[str, list[float]] = {contest.name: [] for contest in contests}
    for turn in range(n_rounds + 1):
        for contest in contests:
            first, second, third, fourth = map(seconds_of, (contest.bare, contest.ours, contest.ours, contest.bare))
            if turn:  # the first round warms up
                bare[contest.name].append((first + fourth) / 2)
                ours[contest.name].append((second + third) / 2)
    rows, seconds = [], []
    for contest in contests:
        name, against = contest.name, contest.against
        ratios = [a / b for a, b in zip(bare[name], ours[name], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        rows.append(row(name, middle, "ratio of speeds", against, contest.target))
        rows.append(row(f"{name}_quartile_1", low, "ratio of speeds", against))
        rows.append(row(f"{name}_quartile_3", high, "ratio of speeds", against))
        seconds.append(row(f"seconds_{name}", statistics.median(ours[name]), "s"))
    return rows + seconds


def resident_bytes(key: str) -> int:
    """`VmRSS` or `VmHWM` (its peak) of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def peak_bytes(run: Callable[[], object]) -> int:
    """Resident memory at its peak during a call, above what it was before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident_bytes("VmRSS")
    run()
    return resident_bytes("VmHWM") - before


def memory_rows(passes: Passes) -> list[Row]:
    """Nothing where the system does not say (Linux with glibc does)."""
    try:
        # Large tensors come from the system and go back to it, so that resident memory is what is in use.
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 64 * 1024)
        peak_bytes(lambda: None)
    except (OSError, AttributeError):
        return []
    captured = sum(x.nbytes for x in passes.three_sites().values())
    passes.bare_until_block()
    bare = statistics.median(peak_bytes(passes.bare_until_block) for _ in range(5))
    ours = statistics.median(peak_bytes(passes.three_sites) for _ in range(5))
    for _ in range(10):
        passes.three_sites()
    start = resident_bytes("VmRSS")
    for _ in range(N_BATCHES):
        passes.three_sites()
    gc.collect()
    grown = (resident_bytes("VmRSS") - start) / captured
    allowed = "peak of the bare forward plus what is captured"
    return [
        row("memory_peak_three_sites", ours / (bare + captured), "ratio of bytes", allowed, 1.05, most=True),
        row(f"memory_growth_over_{N_BATCHES}_batches", grown, "captures of one batch", "none", 0.5, most=True),
        row("bytes_peak_bare", bare, "B"),
        row("bytes_peak_three_sites", ours, "B"),
        row("bytes_captured", captured, "B"),
    ]


def show(rows: Sequence[Row]) -> None:
    for one in rows:
        verdict = {None: "", True: "holds", False: "MISSED"}[one["holds"]]
        target = "" if one["target"] is None else f"target {one['target']:g}"
        print(f"{one['name']:<32}{one['value']:>14.4g} {one['unit']:<24} {target:<14}{verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny shape and few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    options = parser.parse_args()
    shape = QUICK if options.quick else GPT2_SMALL
    passes = Passes(shape)
    rows = time_rows(contests_of(passes), shape.n_rounds)
    show(rows)
    memory = memory_rows(passes)
    show(memory)
    if options.json is not None:
        options.json.write_text(json.dumps(rows + memory, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
