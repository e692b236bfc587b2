"""What the study of defaults trains on: a known dictionary, the microworld, stories, and a wide known dictionary.

| name | rows | width | latents | l0 | batch | tokens |
|---|---|---|---|---|---|---|
| synthetic | the shape "1024-in-128" (`sae.synthetic`) | 128 | 1,024 | 6 | 1,024 | 1,000,000 |
| microworld | residual stream of the embedded model, block 2 | 128 | 512 | 16 | 1,024 | 1,000,000 |
| stories | residual stream of stories260K, block 2 | 64 | 1,024 | 16 | 1,024 | 1,000,000 |
| wide | 2,048 directions, about 20 active, a tenth of noise | 512 | 8,192 | 32 | 4,096 | 1,000,000 |
| wide5 | wide, 5M rows | 512 | 8,192 | 32 | 4,096 | 5,000,000 |

Rows are made once and kept in a folder, in the order of training; models' rows repeat after their harvest's end, those
of known dictionaries never do.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sae.activations.columns import ColumnBatches, sites_of
from sae.activations.reader import Activations
from sae.core.errors import WorldError
from sae.core.random import generator
from sae.synthetic import Stream, Truth, TruthConfig, shape

N_TEST = 32_768
_CHUNK = 16_384


class Bench(NamedTuple):
    """Data and sizes of the runs on them."""

    name: str
    d_sae: int
    l0: int
    batch: int
    tokens: int
    write: Callable[[Path, int], None]
    """Writes train.npy, of at most so many rows, and test.npy into a folder."""
    truth: TruthConfig | None = None
    """Where it is `sae.synthetic`'s."""
    directions: Callable[[], Tensor] | None = None
    """Where they are known otherwise."""
    n_test: int = N_TEST
    more: Callable[[], Iterator[Tensor]] | None = None
    """Ten times as many test rows, where they can be had, in parts; the first part are the test rows."""


class Rows(NamedTuple):
    """A bench's rows."""

    bench: Bench
    train: Tensor
    test: Tensor

    def batch(self, step: int, size: int) -> Tensor:
        """The rows of a step; from the front again after the last whole batch."""
        start = step % (len(self.train) // size) * size
        return self.train[start : start + size].float()

    @property
    def sample(self) -> Tensor:
        """From which scale and centre are taken."""
        return self.train[:_CHUNK].float()

    def stream(self) -> Stream:
        """The truth's rows that everything is scored on."""
        assert self.bench.truth is not None
        return Truth(self.bench.truth).stream("test")


def rows(bench: Bench, cache: Path) -> Rows:
    """Reads a bench's rows; they are made if they are not there.

    Raises:
        WorldError: the harvest failed.
    """
    folder = cache / bench.name
    if not (folder / "ready").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        sys.stderr.write(f"making the rows of {bench.name} in {folder} (once)\n")
        bench.write(folder, bench.tokens)
        (folder / "ready").touch()
    train, test = (torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ("train", "test"))
    return Rows(bench, train, test)


def _of_truth(config: TruthConfig) -> Callable[[Path, int], None]:
    def write(folder: Path, n: int) -> None:
        truth = Truth(config)
        _save(folder / "train.npy", n, config.d, truth.stream("train").rows)
        np.save(folder / "test.npy", truth.stream("test").rows(0, min(n, N_TEST)).numpy())

    return write


def _save(file: Path, n: int, d: int, make: Callable[[int, int], Tensor]) -> None:
    out = np.lib.format.open_memmap(file, "w+", np.float32, (n, d))
    for start in range(0, n, _CHUNK):
        stop = min(start + _CHUNK, n)
        out[start:stop] = make(start, stop).numpy()
    out.flush()


def _of_model(config: str, site: str) -> Callable[[Path, int], None]:
    def write(folder: Path, n: int) -> None:
        store = folder / "store"
        words = [config, "--store", str(store), "--text.max_tokens", str(n // 2), "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", "harvest", *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise WorldError(f"the harvest of {config} failed: {done.stderr.splitlines()[-1:]}")
        columns = sites_of(Activations(Path(json.loads(done.stdout.splitlines()[-1])["path"])), [site])
        batches = ColumnBatches(columns, "train", 1024, 0)
        n_whole = batches.n_rows // 1024 * 1024
        _save(folder / "train.npy", n_whole, columns.d, lambda a, b: _joined(batches, a, b))
        np.save(folder / "test.npy", columns.sample("test", N_TEST).numpy())
        batches.close()

    return write


def _joined(batches: ColumnBatches, start: int, stop: int) -> Tensor:
    return torch.cat([batches.batch(step) for step in range(start // 1024, stop // 1024)])


N_WIDE, D_WIDE, ACTIVE_WIDE = 2048, 512, 20


def wide_directions() -> Tensor:
    """Unit rows of the wide truth."""
    drawn = torch.randn(N_WIDE, D_WIDE, generator=generator(0, "study", "directions"))
    return torch.nn.functional.normalize(drawn, dim=1)


def _wide_rows() -> Callable[[int, int, str], Tensor]:
    """Makes features drawn by log-normal weights, sizes U(0.5, 1.5), noise of a tenth of the mean norm."""
    directions = wide_directions()
    weights = torch.randn(N_WIDE, generator=generator(0, "study", "weights")).exp()

    def make(start: int, stop: int, name: str) -> Tensor:
        g = generator(0, "study", name, start)
        which = torch.multinomial(weights.expand(stop - start, -1), ACTIVE_WIDE, generator=g)
        sizes = torch.rand(stop - start, ACTIVE_WIDE, generator=g) + 0.5
        x = torch.nn.functional.embedding_bag(which, directions, per_sample_weights=sizes, mode="sum")
        noise = 0.1 * float(x.norm(dim=1).mean()) / math.sqrt(D_WIDE)
        return x + noise * torch.randn(x.shape, generator=g)

    return make


def _wide(folder: Path, n: int) -> None:
    make = _wide_rows()
    _save(folder / "train.npy", n, D_WIDE, lambda start, stop: make(start, stop, "train"))
    np.save(folder / "test.npy", make(0, _CHUNK, "test").numpy())


def _more_of_wide() -> Iterator[Tensor]:
    make = _wide_rows()
    return (make(start, start + _CHUNK, "test") for start in range(0, 10 * _CHUNK, _CHUNK))


def stories_are_there() -> bool:
    """Whether the folders of the story model and its texts exist."""
    shared = Path(__file__).parents[2].parent / "shared"
    model = Path(os.environ.get("STORIES_MODEL") or shared / "models" / "stories260K")
    text = Path(os.environ.get("STORIES_TEXT") or shared / "data" / "stories")
    return model.exists() and text.exists()


def _more_of_tiny() -> Iterator[Tensor]:
    test = Truth(_TINY).stream("test")
    return (test.rows(start, start + 4096) for start in range(0, 10 * 4096, 4096))


_TINY = TruthConfig(d=16, n_features=32, highest=0.2, lowest=0.02, n_trees=1, depth=1)
_SITE = "blocks.2.resid_post"
QUICK = Bench("quick", 32, 2, 128, 4096, _of_truth(_TINY), _TINY, n_test=2048, more=_more_of_tiny)
BENCHES = (
    Bench("synthetic", 1024, 6, 1024, 1_000_000, _of_truth(shape("1024-in-128")), shape("1024-in-128")),
    Bench("microworld", 512, 16, 1024, 1_000_000, _of_model("quickstart", _SITE)),
    Bench("stories", 1024, 16, 1024, 1_000_000, _of_model("stories", _SITE)),
    Bench("wide", 8192, 32, 4096, 1_000_000, _wide, directions=wide_directions, more=_more_of_wide),
    Bench("wide5", 8192, 32, 4096, 5_000_000, _wide, directions=wide_directions, more=_more_of_wide),
)
