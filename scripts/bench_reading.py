#!/usr/bin/env python3
"""What reading and editing cost beside a bare Hugging Face model: GPT-2-small's shape, random weights, this processor.

    python scripts/bench_reading.py [--quick] [--json FILE]

Time: all contenders run once a round, the order rotating, and a ratio is the median over rounds of what the bare pass
took over what ours took, so load that comes and goes meets both alike; the floor is the bare pass against itself.
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


def seconds_of(contenders: Sequence[Callable[[], object]], n_rounds: int) -> list[list[float]]:
    """Seconds by contender and round, the order rotating from round to round."""
    for contender in contenders:
        contender()
    seconds: list[list[float]] = [[] for _ in contenders]
    for turn in range(n_rounds):
        for step in range(len(contenders)):
            number = (turn + step) % len(contenders)
            start = time.perf_counter()
            contenders[number]()
            seconds[number].append(time.perf_counter() - start)
    return seconds


def time_rows(passes: Passes, n_rounds: int) -> list[Row]:
    until = [passes.bare_until_block, passes.bare_until_block, passes.one_site, passes.three_sites]
    bare_until, again_until, one, three = seconds_of(until, n_rounds)
    bare, again, addition = seconds_of([passes.bare, passes.bare, passes.addition], n_rounds)

    def ratio(theirs: list[float], ours: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))

    raises, full = "bare forward that raises at the same block", "plain full forward"
    return [
        row("reading_one_site", ratio(bare_until, one), "ratio of speeds", raises, 0.97),
        row("reading_three_sites", ratio(bare_until, three), "ratio of speeds", raises, 0.92),
        row("editing_addition", ratio(bare, addition), "ratio of speeds", full, 0.95),
        row("floor_until_block", ratio(bare_until, again_until), "ratio of speeds", "itself"),
        row("floor_full", ratio(bare, again), "ratio of speeds", "itself"),
        row("seconds_bare_until_block", statistics.median(bare_until), "s"),
        row("seconds_reading_one_site", statistics.median(one), "s"),
        row("seconds_reading_three_sites", statistics.median(three), "s"),
        row("seconds_bare_full", statistics.median(bare), "s"),
        row("seconds_editing_addition", statistics.median(addition), "s"),
    ]


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
        print(f"{one['name']:<32}{one['value']:>14.4g} {one['unit']:<24}{target:<14}{verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny shape and few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    options = parser.parse_args()
    shape = QUICK if options.quick else GPT2_SMALL
    passes = Passes(shape)
    rows = time_rows(passes, shape.n_rounds)
    show(rows)
    memory = memory_rows(passes)
    show(memory)
    if options.json is not None:
        options.json.write_text(json.dumps(rows + memory, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
