"""A peer's program: it loads, says that it is ready, and makes one run for every line on standard input.

Only its answers go to standard output, one JSON object a line; whatever the peer prints goes to standard error. It uses
nothing but the standard library, and NumPy and torch where rows are trained on, for it is imported in the peers' own
environments.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    """One run."""

    n_tokens: int
    """Tokens whose activations came out, or that were trained on; padding is none."""
    seconds: float
    processor_seconds: float
    """Of all threads: what a machine that is shared changes less."""


def settings() -> dict[str, Any]:
    """What the benchmark says: the model, the documents, sizes."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", WANDB_MODE="disabled")
    return json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def pool(said: dict[str, Any]) -> Any:
    """The rows that are trained on: of a file where one is named, else so many, drawn on the device."""
    import torch

    if "activations" in said:
        import numpy as np

        return torch.from_numpy(np.load(said["activations"]))
    g = torch.Generator(said["device"]).manual_seed(0)
    return torch.randn(said["n_rows"], said["d"], generator=g, device=said["device"])


def finish(said: dict[str, Any]) -> None:
    """Waits for what the device was asked to do; a processor never is behind."""
    if said["device"] != "cpu":
        import torch

        torch.cuda.synchronize()


def serve(load: Callable[[], Callable[[], Done]]) -> None:
    """Loads, then runs whenever it is asked, until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run = load()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(run()._asdict()), file=answers, flush=True)


def timed(run: Callable[[], int]) -> Done:
    """A run that says how many tokens came out."""
    start, worked = time.perf_counter(), time.process_time()
    n_tokens = run()
    return Done(n_tokens, time.perf_counter() - start, time.process_time() - worked)
