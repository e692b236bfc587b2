"""Proves that nothing is lost: `scripts/prove_resume harvest --kills 20`.

1. One store gets an uninterrupted run. In another the same command is killed (kill -9) again and again: a random time
   after it has finished some more shards, or passed a checkpoint, or at any time at all. Whatever a reader finds
   afterwards, of a run that came to its end or was killed on its way out, is compared with the uninterrupted one;
   then a new one begins, until there were enough kills.
2. Compared is every file but `manifest.json` and `metrics.jsonl`, byte by byte.

3. Training is proven for every preset that is trained, one after the other (`--presets`).

Further words (`--section.key value`) go to the stage. Ends with a table, and status 1 if anything differs.
"""

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from sae.training.config import CONTROLS, Preset

SAE = [sys.executable, "-c", "from pipelines.cli import main; main()"]
SIZES = {
    "harvest": ["--text.max_tokens", "400_000", "--harvest.shard_rows", "10_000"],
    "train": ["--text.max_tokens", "200_000", "--train.tokens", "400_000", "--train.d_sae", "256",
              "--train.checkpoint_every_tokens", "20_000"],
}  # fmt: skip
UNITS = {"harvest": "shards", "train": "checkpoints"}
AT_ANY_TIME = 0.25
"""Share of the kills that wait for nothing."""
KINDS = {"harvest": "activations", "train": "dictionaries"}
APART = ("manifest.json", "metrics.jsonl")
PRESETS = [preset for preset in get_args(Preset) if preset not in CONTROLS]
READ, WRITTEN = "blocks.2.mlp_in", "blocks.2.mlp_out"
"""Sites of the harvest that all presets share."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=sorted(KINDS))
    parser.add_argument("--kills", type=int, default=20, help="of each preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", default="quickstart")
    parser.add_argument("--presets", nargs="+", default=PRESETS, choices=PRESETS, help="of train; all by default")
    arguments, arguments.overrides = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory(prefix="prove-resume-") as root:
        return prove(arguments, Path(root))


class Seen(NamedTuple):
    """What became of one case."""

    name: str
    kills: list[int]
    """Shards or checkpoints that were finished at each."""
    n_results: int
    n_equal: int


def prove(arguments: argparse.Namespace, root: Path) -> int:
    """Kills until there were enough, for every case, then prints what was seen."""
    words = [arguments.config, *SIZES[arguments.stage], *arguments.overrides]
    if arguments.stage == "harvest":
        cases = {"harvest": []}
    else:
        words += ["--site", f"[{READ}, {WRITTEN}]"]
        cases = {preset: ["--train.preset", preset, *places(preset)] for preset in arguments.presets}
        shared = root / "harvest"
        harvest = [*SAE, "harvest", *words, *places("topk"), "--store", str(shared)]
        run_and_kill(harvest, shared, "train", None, 0)
    seen = []
    for name, more in cases.items():
        folder = root / name
        for store in ("whole", "killed") if arguments.stage == "train" else ():
            (folder / store).mkdir(parents=True)
            (folder / store / "activations").symlink_to(root / "harvest" / "activations")
        seen.append(prove_one(name, [*SAE, arguments.stage, *words, *more], folder, arguments))
    print(f"{arguments.stage:18}{'kills':>8}{'in the midst':>14}{'results':>9}{'equal':>7}")
    for case in seen:
        between = sum(n > 0 for n in case.kills)
        print(f"{case.name:18}{len(case.kills):>8}{between:>14}{case.n_results:>9}{case.n_equal:>7}")
    return 0 if all(case.n_equal == case.n_results for case in seen) else 1


def places(preset: Preset) -> list[str]:
    """Which of the harvested sites a preset is trained on."""
    match preset:
        case "transcoder":
            return ["--train.site", READ, "--train.target", WRITTEN]
        case "crosscoder":
            return []
        case _:
            return ["--train.site", WRITTEN]


def prove_one(name: str, command: Sequence[str], root: Path, arguments: argparse.Namespace) -> Seen:
    """One case: an uninterrupted run, and runs that are killed until there were enough kills."""
    stage, whole, killed = arguments.stage, root / "whole", root / "killed"
    started = time.monotonic()
    run_and_kill([*command, "--store", str(whole)], whole, stage, None, 0)
    wall = time.monotonic() - started
    wanted = digests(whole, stage)
    print(f"{name}, uninterrupted: {wall:.1f} s, {len(wanted)} files", flush=True)
    chance, kills, n_equal, n_rounds = random.Random(f"{arguments.seed} {name}"), [], 0, 0
    while len(kills) < arguments.kills or n_rounds == 0:
        if len(kills) >= arguments.kills:
            n_more, seconds = None, 0.0
        elif chance.random() < AT_ANY_TIME:
            n_more, seconds = 0, chance.uniform(0.0, wall)
        else:
            n_more, seconds = chance.choice((1, 2, 3)), chance.uniform(0.0, 0.5)
        ended = run_and_kill([*command, "--store", str(killed)], killed, stage, n_more, seconds)
        if not ended:
            kills.append(n_finished(killed, stage))
            print(f"  kill {len(kills)}: {kills[-1]} {UNITS[stage]} finished", flush=True)
        if ended or published(killed, stage):
            n_rounds += 1
            equal = digests(killed, stage) == wanted
            n_equal += equal
            print(f"  result {n_rounds}: {'the same bytes' if equal else 'DIFFERS'}", flush=True)
            shutil.rmtree(killed / KINDS[stage])
    return Seen(name, kills, n_rounds, n_equal)


def run_and_kill(command: Sequence[str], store: Path, stage: str, n_more: int | None, seconds: float) -> bool:
    """Runs a command and kills it; whether it came to its end before.

    Args:
        n_more: kill it when so many more shards or checkpoints are finished than before; None: never.
        seconds: after that, wait so long.
    """
    before = n_finished(store, stage)
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment())
        while process.poll() is None and (n_more is None or n_finished(store, stage) < before + n_more):
            time.sleep(0.01)
        try:
            process.wait(seconds if n_more is not None else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        if process.returncode != 0:
            said.seek(0)
            raise SystemExit(f"the run failed: {said.read()}")
    return True


def digests(store: Path, stage: str) -> dict[str, str]:
    """Checksums of the files of the one artifact of a stage."""
    (artifact,) = published(store, stage)
    files = [file for file in sorted(artifact.rglob("*")) if file.is_file() and file.name not in APART]
    return {str(file.relative_to(artifact)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def published(store: Path, stage: str) -> list[Path]:
    """Artifacts of a stage that a reader finds."""
    return [path.parent for path in (store / KINDS[stage]).glob("*/manifest.json")]


def n_finished(store: Path, stage: str) -> int:
    """Finished shards, or the number of the newest checkpoint in units of the batches between two."""
    building = store / ".building"
    if stage == "harvest":
        return len(list(building.glob("*/*-*.h5")))
    steps = [int(path.name.split("-")[1]) for path in building.glob("*/checkpoints/step-*")]
    return len(steps) and max(steps) // 20


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    sys.exit(main())
