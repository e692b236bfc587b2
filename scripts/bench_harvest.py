#!/usr/bin/env python3
"""What harvesting to disk costs beside a bare Hugging Face forward pass, and beside other libraries.

    python scripts/bench_harvest.py [--quick] [--json FILE] [--peers] [--only NAME] [--rounds N]

Ours is a whole `Harvest`: packing, encoding, statistics, checksums, shards on disk. The floor is the same model over
the windows that ours passed through it, in the same batches, stopped by a hook that raises after the same block, in
inference mode; nothing is written. Both are given token ids (a tokenizer that only looks them up), and rows are stored
in the dtype in which they are computed. All contenders run once a round, the order rotating, and a ratio is the median
over rounds, so load that comes and goes meets all alike; a run is made again where a hypervisor took the processors
away (`undisturbed`). `--peers` adds SAELens and dictionary_learning, each in an environment of its own that is made
when it is first needed (scripts/peers), with six layers of width 384: the smaller a model, the more of the time goes to
what is not its forward pass. `--only peers_gpt2` has them with the shape of GPT-2 small, where their own forward pass
is nearly all that there is, and no target. Both peers run the model as transformers wrote it; ours, and the bare one,
as `load_model` gives it, GELU in one operation. Memory is the peak of a fresh process on texts of the microworld, above
what it held with the model loaded. Rows of the file: {name, value, unit, against, target, holds}; exit status 0 whether
or not targets hold.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from bench_reading import Row, resident_bytes, row, show
from peers.environment import DICTIONARY_LEARNING, SAELENS
from peers.material import (  # fmt: skip
    GPT2_SMALL,
    QUICK,
    SIX_LAYERS,
    STORIES,
    Reading,
    Shape,
    full_documents,
    of_ids,
    of_texts,
    save_model,
    short_documents,
    write_settings,
)
from peers.process import PeerProcess
from torch import Tensor, nn
from undisturbed import undisturbed

from sae.activations.config import Encoding, HarvestConfig
from sae.activations.harvest import Harvest
from sae.core.errors import WorldError
from sae.lm.families import family_of

SHARED = Path(__file__).parents[2] / "shared"
STORIES_MODEL = Path(os.environ.get("STORIES_MODEL") or SHARED / "models" / "stories260K")
STORIES_TEXT = Path(os.environ.get("STORIES_TEXT") or SHARED / "data" / "stories") / "stories260K_samples.jsonl"
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")
MEGABYTE = 1_000_000
CORPORA = (100_000, 1_000_000, 5_000_000)
QUICK_CORPORA = (4_000,)
N_BATCHES_ALLOWED = 2
MOST_GROWTH = 5
"""Bytes a token: 0, but for the hashes of texts that find copies."""
PEER_TOKENS, PEER_ROUNDS = 8192, 3
"""Of GPT-2 beside the peers, which are six contenders and slow: one that pads reads several times as many."""
PARTS = ("float32", "stories", "bfloat16", "memory")
PEERS = ("peers", "peers_gpt2")


class _Reached(BaseException):
    pass


@dataclass(frozen=True)
class Ours:
    """One harvest of all texts, in a folder that is removed afterwards."""

    reading: Reading
    sites: tuple[str, ...]
    config: HarvestConfig
    folder: Path

    def rate(self) -> float:
        """Tokens a second, from opening the first file to closing the last."""
        self.folder.mkdir()
        start = time.perf_counter()
        harvest = Harvest(self.reading.loaded, self.sites, self.config, self.folder)
        for _ in harvest.run(self.reading.texts):
            pass
        seconds = time.perf_counter() - start
        shutil.rmtree(self.folder)
        return harvest.counts.n_forward / seconds

    def inputs(self) -> list[dict[str, Tensor]]:
        """What one harvest gives to the model, batch by batch."""
        seen: list[dict[str, Tensor]] = []

        def keep(_: nn.Module, args: Any, inputs: dict[str, Any]) -> None:
            seen.append({name: value for name, value in inputs.items() if isinstance(value, Tensor)})

        handle = self.reading.loaded.model.register_forward_pre_hook(keep, with_kwargs=True)
        self.rate()
        handle.remove()
        return seen


@dataclass(frozen=True)
class Bare:
    """The same model over the same windows, stopped after a block."""

    model: nn.Module
    block: int
    inputs: Sequence[dict[str, Tensor]]

    def rate(self) -> float:
        """Tokens a second."""

        def stop(_: nn.Module, args: Any, output: Any) -> None:
            raise _Reached

        handle = self.model.get_submodule(f"{family_of(self.model).blocks}.{self.block}").register_forward_hook(stop)
        start = time.perf_counter()
        with torch.inference_mode():
            for inputs in self.inputs:
                with suppress(_Reached):
                    self.model(**inputs, use_cache=False)
        seconds = time.perf_counter() - start
        handle.remove()
        return sum(inputs["input_ids"].numel() for inputs in self.inputs) / seconds


def as_written(reading: Reading) -> nn.Module:
    """The model without what `load_model` does to it."""
    from transformers import AutoModelForCausalLM

    loaded = reading.loaded
    model = AutoModelForCausalLM.from_pretrained(loaded.name, dtype=next(loaded.model.parameters()).dtype)
    return model.eval().requires_grad_(False)


def rates_of(contenders: Sequence[Callable[[], float]], n_rounds: int) -> list[list[float]]:
    """Tokens a second by contender and round, the order rotating from round to round."""
    for contender in contenders:
        contender()
    rates: list[list[float]] = [[] for _ in contenders]
    for turn in range(n_rounds):
        for step in range(len(contenders)):
            number = (turn + step) % len(contenders)
            rates[number].append(undisturbed(contenders[number]))
    return rates


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def floor_rows(
    name: str, reading: Reading, shape: Shape, folder: Path, dtype: Encoding, targets: Sequence[float | None]
) -> list[Row]:
    """One site and three beside the bare forward pass."""
    config = HarvestConfig(window=shape.window, batch=shape.batch, dtype=dtype)
    one = Ours(reading, shape.sites[-1:], config, folder / "ours")
    three = Ours(reading, shape.sites, config, folder / "ours")
    inputs = one.inputs()
    same = Bare(reading.loaded.model, shape.blocks[-1], inputs)
    bare = replace(same, inputs=[{"input_ids": batch["input_ids"]} for batch in inputs])
    written = replace(bare, model=as_written(reading))
    contenders = [bare.rate, bare.rate, written.rate, same.rate, one.rate, three.rate]
    floor, again, unfused, isolating, ours, several = rates_of(contenders, shape.n_rounds)
    against = f"bare {dtype} forward that raises after the same block"
    return [
        row(f"harvest_{name}_one_site", ratio(ours, floor), "ratio of speeds", against, targets[0]),
        row(f"harvest_{name}_three_sites", ratio(several, floor), "ratio of speeds", against, targets[1]),
        row(f"forward_{name}_fused", ratio(floor, unfused), "ratio of speeds", "the model as transformers loads it"),
        row(f"forward_{name}_isolating", ratio(isolating, floor), "ratio of speeds", against),
        row(f"floor_{name}", ratio(again, floor), "ratio of speeds", "itself"),
        row(f"rate_{name}_bare", statistics.median(floor), "tokens/s"),
        row(f"rate_{name}_one_site", statistics.median(ours), "tokens/s"),
        row(f"rate_{name}_three_sites", statistics.median(several), "tokens/s"),
    ]


def peer_rows(name: str, shape: Shape, model: Path, folder: Path) -> list[Row]:
    """Full windows, and short documents beside a library that pads them; one site, float32."""
    documents = {"full": full_documents(shape), "short": short_documents(shape)}
    for kind, ids in documents.items():
        write_settings(folder / f"{kind}.json", shape, model, ids, torch.get_num_threads())
    config = HarvestConfig(window=shape.window, batch=shape.batch, dtype="float32")
    full, short = (Ours(of_ids(model, ids), shape.sites[-1:], config, folder / "ours") for ids in documents.values())
    bare = Bare(full.reading.loaded.model, shape.blocks[-1], [{"input_ids": i["input_ids"]} for i in full.inputs()])
    peers = [
        PeerProcess(SAELENS, "saelens_cache", folder / "full.json"),
        PeerProcess(DICTIONARY_LEARNING, "dictionary_learning_buffer", folder / "full.json"),
        PeerProcess(DICTIONARY_LEARNING, "dictionary_learning_buffer", folder / "short.json"),
    ]
    contenders = [bare.rate, full.rate, short.rate, *(peer.tokens_per_second for peer in peers)]
    floor, on_full, on_short, saelens, buffer, padding = rates_of(contenders, shape.n_rounds)
    for peer in peers:
        peer.close()
    faster = max(saelens, buffer, key=statistics.median)
    names, pads = "faster of SAELens and dictionary_learning", "dictionary_learning, which pads"
    targets = (1.15, 1.5) if name == "peers" else (None, None)
    return [
        row("harvest_full_windows", ratio(on_full, faster), "ratio of speeds", names, targets[0]),
        row("harvest_short_documents", ratio(on_short, padding), "ratio of speeds", pads, targets[1]),
        row("harvest_over_bare", ratio(on_full, floor), "ratio of speeds", "bare forward"),
        row("saelens_over_bare", ratio(saelens, floor), "ratio of speeds", "bare forward"),
        row("dictionary_learning_over_bare", ratio(buffer, floor), "ratio of speeds", "bare forward"),
        row("rate_full_bare", statistics.median(floor), "tokens/s"),
        row("rate_full_ours", statistics.median(on_full), "tokens/s"),
        row("rate_full_saelens", statistics.median(saelens), "tokens/s"),
        row("rate_full_dictionary_learning", statistics.median(buffer), "tokens/s"),
        row("rate_short_ours", statistics.median(on_short), "tokens/s"),
        row("rate_short_dictionary_learning", statistics.median(padding), "tokens/s"),
    ]


def memory_rows(corpora: Sequence[int], folder: Path) -> list[Row]:
    """The peak of a fresh process for corpora of growing size; nothing where the system does not say."""
    if not Path("/proc/self/status").is_file():
        return []
    peaks, batch = [], 0
    for n_tokens in corpora:
        text = folder / f"{n_tokens}.txt"
        write_text(n_tokens, text)
        command = [sys.executable, __file__, "--peak-of", str(n_tokens), "--text", str(text)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        measured = json.loads(done.stdout)
        peaks.append(measured["peak"])
        batch = measured["batch"]
        text.unlink()
    most = (300 * MEGABYTE + N_BATCHES_ALLOWED * batch) / MEGABYTE
    allowed = f"300 MB and {N_BATCHES_ALLOWED} batches"
    rows = [
        row(f"memory_{n_tokens}_tokens", peak / MEGABYTE, "MB above the model", allowed, most, most=True)
        for n_tokens, peak in zip(corpora, peaks, strict=True)
    ]
    if len(corpora) == 1:
        return rows
    grown = (peaks[-1] - peaks[-2]) / (corpora[-1] - corpora[-2])
    return [*rows, row("memory_growth", grown, "bytes a token", "none", MOST_GROWTH, most=True)]


def write_text(n_tokens: int, text: Path) -> None:
    """Texts of the microworld, one a line, for another process: what the generator remembers is no harvest's."""
    from sae import microworld

    with text.open("w", encoding="utf-8") as lines:
        lines.writelines(document.text + "\n" for document in microworld.documents(0, n_tokens))


def peak_of(n_tokens: int, text: Path) -> dict[str, int]:
    """Harvests the lines of a file in this process: bytes above those with the model loaded, and those of a batch."""
    from sae.lm.corpus import Corpus, Text
    from sae.lm.load import load_model
    from sae.microworld import folder as model_folder

    loaded, config, site = load_model(str(model_folder())), HarvestConfig(), "blocks.2.resid_post"
    before = resident_bytes("VmRSS")
    with text.open(encoding="utf-8") as lines, tempfile.TemporaryDirectory() as folder:
        corpus = Corpus(Text(line.rstrip("\n")) for line in lines)
        for _ in Harvest(loaded, [site], config, Path(folder)).run(corpus, n_tokens):
            pass
    batch = config.batch * config.window * loaded.d_model * 4
    return {"peak": resident_bytes("VmHWM") - before, "batch": batch}


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself."""
    file = Path("/proc/cpuinfo")
    return file.is_file() and any(flag in file.read_text(encoding="utf-8") for flag in BFLOAT16_FLAGS)


def stories_texts() -> list[str]:
    with STORIES_TEXT.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def part_rows(part: str, shape: Shape, model: Path, folder: Path, quick: bool) -> list[Row]:
    """The rows of one part of the benchmark; none where this machine cannot measure it."""
    match part:
        case "float32":
            reading = of_ids(model, full_documents(shape))
            return floor_rows("gpt2", reading, shape, folder, "float32", (0.9, 0.85))
        case "bfloat16":
            reading = of_ids(model, full_documents(shape), "bfloat16")
            targets = (0.85, None) if has_bfloat16() else (None, None)
            return floor_rows("gpt2_bfloat16", reading, shape, folder, "bfloat16", targets)
        case "stories":
            if not (STORIES_MODEL.is_dir() and STORIES_TEXT.is_file()):
                return []
            stories = replace(STORIES, n_tokens=8192, n_rounds=1) if quick else STORIES
            reading = of_texts(STORIES_MODEL, stories_texts(), stories.n_tokens)
            return floor_rows("stories260K", reading, stories, folder, "float32", (None, None))
        case "memory":
            return memory_rows(QUICK_CORPORA if quick else CORPORA, folder)
        case _:
            return peer_rows(part, shape, model, folder)


def shape_of(part: str, quick: bool, n_rounds: int | None) -> Shape:
    """What a part reads."""
    if quick:
        return QUICK
    whole = SIX_LAYERS if part == "peers" else GPT2_SMALL
    if part == "peers_gpt2":
        whole = replace(whole, n_tokens=PEER_TOKENS, n_rounds=PEER_ROUNDS)
    return replace(whole, n_rounds=n_rounds or whole.n_rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny shape and few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--peers", action="store_true", help="also SAELens and dictionary_learning")
    parser.add_argument("--only", choices=(*PARTS, *PEERS), help="one part of it")
    parser.add_argument("--rounds", type=int, help="turns that count; left out: 7, of peers 4, of peers_gpt2 3")
    parser.add_argument("--peak-of", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--text", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of is not None:
        print(json.dumps(peak_of(options.peak_of, options.text)))
        return
    parts = [options.only] if options.only else [*PARTS, *(["peers"] if options.peers else [])]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in parts:
            shape = shape_of(part, options.quick, options.rounds)
            model = folder / f"model_{shape.d_model}"
            if not model.exists():
                save_model(shape, model)
            try:
                found = part_rows(part, shape, model, folder, options.quick)
            except WorldError as error:  # a peer that cannot be had leaves the other rows as they are
                sys.stderr.write(f"{part} is left out: {error}\n")
                continue
            show(found)
            rows += found
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
