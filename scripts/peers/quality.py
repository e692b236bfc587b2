"""One dictionary trained by another library, in its own environment, and scored by us.

The peer's program reads the rows from a file, trains, and writes what its own encoder and decoder make of the rows that
are scored: decoder rows, active latents as triples, reconstructions. Nothing of its weights is translated, so a mistake
of ours in reading them cannot count against it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peers.environment import DICTIONARY_LEARNING, SAELENS, SPARSIFY
from peers.penalty import Try, nearest, sought
from torch import Tensor

from sae.core.errors import WorldError
from sae.kernels import Code, RaggedCode
from sae.training.loop import Batches

LIBRARIES = ("saelens", "dictionary_learning", "sparsify")
PEER_PRESETS = {
    "saelens": ("topk", "batchtopk", "jumprelu", "relu", "matryoshka"),
    "dictionary_learning": ("topk", "batchtopk", "jumprelu", "relu", "matryoshka"),
    "sparsify": ("topk",),
}
_ENVIRONMENTS = {"saelens": SAELENS, "dictionary_learning": DICTIONARY_LEARNING, "sparsify": SPARSIFY}
SOUGHT = {(library, preset) for library in ("saelens", "dictionary_learning") for preset in ("relu", "jumprelu")}
"""Where a penalty decides on l0."""


def devices() -> tuple[str, ...]:
    """Where peers can train here."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


class Recorded:
    """What a peer made of the rows that are scored, in their order."""

    def __init__(self, folder: Path) -> None:
        said = np.load(folder / "found.npz")
        self.W_dec = torch.from_numpy(said["W_dec"])
        self._y = torch.from_numpy(said["y"])
        counts = torch.from_numpy(np.bincount(said["rows"], minlength=len(said["y"])))
        self._starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        self._latents, self._values = (torch.from_numpy(said[name]) for name in ("latents", "values"))
        self._next = 0
        self.fired = torch.from_numpy(said["fired"] if "fired" in said else np.zeros(0, bool))
        """Whether a latent fired at any of the further rows; empty where there were none."""

    @property
    def l0(self) -> float:
        """Active latents a row."""
        return len(self._values) / len(self._y)

    def encode(self, x: Tensor, /) -> Code:
        start, self._next = self._next, self._next + len(x)
        starts = self._starts[start : self._next + 1]
        inside = slice(int(starts[0]), int(starts[-1]))
        return RaggedCode(self._values[inside], self._latents[inside], starts - starts[0], (len(x),), len(self.W_dec))

    def decode(self, code: Code, /) -> Tensor:
        assert isinstance(code, RaggedCode)
        return self._y[self._next - code.n_tokens : self._next]


class Guess(NamedTuple):
    """A penalty to begin with."""

    penalty: float
    final: bool
    """It is kept, whatever l0 it leads to."""


def peer_run(run: Any, task: Any, folder: Path, guess: Guess, device: str = "cpu") -> dict[str, Any]:
    """Trains one dictionary of a peer; where it has a penalty, and that is not final, several, until l0 is reached.

    Args:
        run: its `library`, `preset`, `d_sae`, `factor` of the default rate, and `seed`.
        task: its `d`, `l0` and `batch`.
        folder: has train_<seed>.npy, test.npy and more.npy, if there are more (`write_rows`); for what the peer writes.
        guess: where it has a penalty.
        device: where it trains, in float32 everywhere.

    Returns:
        what the file of runs keeps, and the `coder` to score: of the try that came nearest. It names the device where
        that is no processor.

    Raises:
        WorldError: its environment or its program failed.
    """

    def train(penalty: float) -> tuple[float, dict[str, Any]]:
        found, coder = _trained(run, task, folder, penalty, device), Recorded(folder)
        return coder.l0, found | {"coder": coder}

    seeking = (run.library, run.preset) in SOUGHT and not guess.final
    tries = sought(train, guess.penalty, task.l0) if seeking else [Try(guess.penalty, *train(guess.penalty))]
    best = nearest(tries, task.l0)
    return best.found | {"penalty": best.penalty, "tries": [(t.penalty, t.l0) for t in tries]}


def write_rows(
    folder: Path,
    task: Any,
    seed: int,
    stream: Batches,
    test: Callable[[], Tensor],
    more: Callable[[], Iterator[Tensor]] | None = None,
) -> None:
    """What a run of a seed reads, if it is not there; rows of other seeds are removed.

    Args:
        more: parts of further rows, of which only it is asked which latents fire there.
    """
    train = folder / f"train_{seed}.npy"
    if not train.is_file():
        for old in folder.glob("train_*.npy"):
            old.unlink()
        n = task.n_tokens // task.batch * task.batch
        out = np.lib.format.open_memmap(train, "w+", np.float32, (n, task.d))
        for step in range(n // task.batch):
            out[step * task.batch : (step + 1) * task.batch] = stream.batch(step).numpy()
        out.flush()
    if not (folder / "test.npy").is_file():
        np.save(folder / "test.npy", test().numpy())
    if more is not None and not (folder / "more.npy").is_file():
        np.save(folder / "more.npy", torch.cat(list(more())).numpy())


def _trained(run: Any, task: Any, folder: Path, penalty: float, device: str) -> dict[str, Any]:
    said = {
        "preset": run.preset,
        "d": task.d,
        "d_sae": run.d_sae,
        "k": task.l0,
        "batch": task.batch,
        "factor": run.factor,
        "seed": run.seed,
        "penalty": penalty,
        "train": str(folder / f"train_{run.seed}.npy"),
        "test": str(folder / "test.npy"),
        "more": str(more) if (more := folder / "more.npy").is_file() else None,
        "found": str(folder / "found.npz"),
        "n_threads": torch.get_num_threads(),
        "device": device,
    }
    settings = folder / "settings.json"
    settings.write_text(json.dumps(said), encoding="utf-8")
    program = Path(__file__).with_name(f"{run.library}_quality.py")
    environment = _ENVIRONMENTS[run.library]
    start = time.perf_counter()
    done = subprocess.run(
        [str(environment.python), str(program), str(settings)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stderr[-2000:])
        raise WorldError(f"{environment.name} ended with status {done.returncode}")
    answer = json.loads(done.stdout.splitlines()[-1])
    found = {"version": environment.requirement, "seconds": round(time.perf_counter() - start, 1), **answer}
    return found if device == "cpu" else found | {"device": device}
