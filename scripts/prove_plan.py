#!/usr/bin/env python3
"""How far `sae plan` is from what happens: each experiment is planned, then harvested, in an empty store.

    python scripts/prove_plan.py [--rounds N] [--train] [--json FILE] [--only NAME] [-- --section.key value …]

Every command is a process of its own. An error is |predicted / real − 1|, its median over rounds; real seconds are
those of the stage's manifest, from its beginning until it is published. A harvest's time must be within 25 %, its disk
within 5 %; training's are shown without a target. Rows of the file: {name, value, unit, against, target, holds}; exit
status 0 whether or not targets hold.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_reading import Row, row, show

SAE = (sys.executable, "-c", "from pipelines.cli import main; main()")
SHARED = Path(__file__).parents[2] / "shared"
THREE = "[blocks.0.resid_post, blocks.1.resid_post, blocks.2.resid_post]"
SEVERAL = ("--site", THREE, "--train.site", "blocks.2.resid_post")
CASES: dict[str, tuple[str, ...]] = {
    "microworld": ("quickstart",),
    "stories260K": ("stories",),
    "microworld_int8_three_sites": ("quickstart", "--harvest.dtype", "int8", *SEVERAL),
}
MOST_SECONDS, MOST_BYTES = 0.25, 0.05


def environment() -> dict[str, str]:
    """Offline; the stories lie beside the checkout unless the user says where."""
    stories = {"STORIES_MODEL": SHARED / "models" / "stories260K", "STORIES_TEXT": SHARED / "data" / "stories"}
    there = {name: str(path) for name, path in stories.items() if path.exists()}
    return {**there, **os.environ, "HF_HUB_OFFLINE": "1"}


def sae(words: Sequence[str]) -> dict[str, Any]:
    """The object that a command prints with `--json`."""
    done = subprocess.run([*SAE, *words, "--json"], stdout=subprocess.PIPE, text=True, check=True, env=environment())
    return json.loads(done.stdout.splitlines()[-1])


def real(stage: str, case: Sequence[str], store: str) -> dict[str, float]:
    """Seconds and bytes of a stage that is made."""
    folder = Path(sae([stage, *case, "--store", store])["path"])
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {"seconds": manifest["wall_seconds"], "bytes": manifest["bytes"]}


def errors(case: Sequence[str], with_training: bool) -> dict[str, float]:
    """One round: how far each prediction was."""
    with tempfile.TemporaryDirectory() as store:
        plan = sae(["plan", *case, "--store", store])
        happened = real("harvest", case, store)
        found = _errors("", plan["harvest"], happened)
        if with_training:
            found |= _errors("train_", plan["train"][0], real("train", case, store))
    return found


def _errors(prefix: str, predicted: dict[str, Any], happened: dict[str, float]) -> dict[str, float]:
    seconds, n_bytes = predicted["seconds"], predicted["bytes_on_disk"]
    sys.stderr.write(
        f"{prefix or 'harvest_'}predicted {seconds:.1f} s, {n_bytes:,} bytes; "
        f"real {happened['seconds']:.1f} s, {happened['bytes']:,} bytes\n"
    )
    return {
        f"{prefix}seconds": abs(seconds / happened["seconds"] - 1),
        f"{prefix}bytes": abs(n_bytes / happened["bytes"] - 1),
    }


def rows_of(name: str, rounds: Sequence[dict[str, float]]) -> list[Row]:
    """The median over rounds of each error."""
    targets = {"seconds": MOST_SECONDS, "bytes": MOST_BYTES}
    return [
        row(
            f"plan_{name}_{what}",
            statistics.median(one[what] for one in rounds),
            "|predicted/real − 1|",
            "what happened",
            targets.get(what),
            most=True,
        )
        for what in rounds[0]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="how often each is planned and harvested")
    parser.add_argument("--train", action="store_true", help="train as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--only", choices=tuple(CASES), help="one experiment")
    parser.add_argument("overrides", nargs="*", help="overrides of every configuration, after --")
    options = parser.parse_args()
    rows: list[Row] = []
    for name, words in CASES.items():
        if options.only not in (None, name) or ("stories" in words and "STORIES_MODEL" not in environment()):
            continue
        case = [*words, *options.overrides]
        found = rows_of(name, [errors(case, options.train) for _ in range(options.rounds)])
        show(found)
        rows += found
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
