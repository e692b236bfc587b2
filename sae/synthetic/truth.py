"""A known dictionary and rows that are made with it, without end and without a file.

    x = Σ_f a_f D[f] + offset + σ n        a_f = |m_f + s_f u|, u ~ N(0, 1), where f is active; else 0

1. Features without a parent are active by a Gaussian copula with common causes (`sae.synthetic.causes`).
2. Where a parent is active, at most one of its children is, level by level (`sae.synthetic.forest`).
3. What is active has a size; directions overlap as far as it was asked for (`sae.synthetic.superposition`).

A stream is defined by blocks of `BLOCK` rows: block b comes from a generator of its own, named by the seed, the
stream's name and b. So rows have numbers, any of them can be had at any time, and batches of any size cut the same
stream. The same configuration gives the same bits on one machine; on another, products may round differently.

After Chanin and Garriga-Alonso 2026, arXiv:2602.14687. There the copula spans all features, children are thinned out
by their parents and siblings afterwards, and frequencies are corrected approximately; here correlation is among
features without a parent, which their descendants share, and every frequency is exact.
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from sae import kernels
from sae.core.errors import InputError, WorldError
from sae.core.random import generator, numpy_generator
from sae.core.records import first_problem
from sae.kernels import RaggedCode
from sae.synthetic import causes
from sae.synthetic.forest import grown
from sae.synthetic.superposition import directions_of
from sae.synthetic.truth_config import TruthConfig

BLOCK = 512
"""Rows that come from one generator."""
_FILE = "truth.json"
_N_SHOWN = 4
"""Directions and rows that are written beside the configuration, so that a reader can see that they are the same."""


class Truth:
    """A dictionary whose features, their sizes and their frequencies are known.

    Raises:
        InputError: directions cannot be as far apart as asked for.
    """

    def __init__(self, config: TruthConfig) -> None:
        self.config = config
        self.directions: Float[Tensor, "feature d"] = directions_of(config)
        self.forest = grown(config)
        self.causes = causes.drawn(config, self.forest.frequencies[self.forest.free])
        g = numpy_generator(config.seed, "truth", "sizes")
        self.sizes = np.linspace(*config.sizes, config.n_features)
        self.spreads = np.abs(config.size_spread * (1 + g.normal(size=config.n_features)))
        away = torch.randn(config.d, generator=generator(config.seed, "truth", "offset"))
        self.offset: Float[Tensor, "d"] = config.offset * away / away.norm()

    @property
    def frequencies(self) -> Float[Tensor, "feature"]:
        """Share of rows in which each feature is active."""
        return torch.from_numpy(self.forest.frequencies)

    @property
    def l0(self) -> float:
        """Mean number of active features a row."""
        return float(self.forest.frequencies.sum())

    def stream(self, name: str = "train", batch: int = 1024) -> "Stream":
        """The rows called `name`; another name gives other rows of the same dictionary."""
        return Stream(self, name, batch)

    def save(self, folder: Path | str) -> None:
        """Writes the configuration, which is all that the data follow from, and a few numbers to know them by."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        record = {"config": self.config.model_dump(mode="json"), "shown": self._shown()}
        (Path(folder) / _FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def _shown(self) -> dict[str, list[list[float]]]:
        rows = self.stream().rows(0, _N_SHOWN)
        return {"directions": self.directions[:_N_SHOWN].tolist(), "rows": rows.tolist()}

    def shows(self, shown: dict[str, list[list[float]]]) -> bool:
        """Whether these are its first directions and rows, up to what another machine rounds differently."""
        return all(np.allclose(shown[name], value, rtol=0, atol=1e-3) for name, value in self._shown().items())


def load_truth(folder: Path | str) -> Truth:
    """Makes again what `Truth.save` wrote.

    Raises:
        InputError: no truth lies there.
        WorldError: its file is damaged, or this version makes other data of it.
    """
    path = Path(folder) / _FILE
    if not path.is_file():
        raise InputError(f"no truth in {folder}: it has no {_FILE}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        truth = Truth(TruthConfig.model_validate(record["config"]))
        same = truth.shows(record["shown"])
    except ValidationError as error:
        raise WorldError(f"{path} is damaged: {first_problem(error)}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise WorldError(f"{path} is damaged: {error}") from None
    if not same:
        raise WorldError(f"{path}: the data are not those that were saved; they come from another version")
    return truth


class Stream:
    """Rows by number, and batches of them by step; `sae.training.loop` reads it as it is."""

    def __init__(self, truth: Truth, name: str, batch: int) -> None:
        self.truth, self.name, self._batch = truth, name, batch
        self._made = lru_cache(maxsize=2)(self._block)

    def batch(self, step: int) -> Float[Tensor, "row d"]:
        """The rows of a step."""
        return self.rows(step * self._batch, (step + 1) * self._batch)

    def rows(self, start: int, stop: int) -> Float[Tensor, "row d"]:
        """Rows `start` to `stop`, the last not included."""
        parts = [self._made(block)[1][inside] for block, inside in _cuts(start, stop)]
        return torch.cat(parts) if parts else torch.zeros(0, self.truth.config.d)

    def codes(self, start: int, stop: int) -> RaggedCode:
        """The true activations of these rows."""
        return _joined([_cut(self._made(block)[0], inside) for block, inside in _cuts(start, stop)], self.truth)

    def _block(self, number: int) -> tuple[RaggedCode, Float[Tensor, "row d"]]:
        truth = self.truth
        random = numpy_generator(truth.config.seed, "truth", self.name, number)
        code = _drawn(truth, random)
        x = kernels.sparse_decode(code, truth.directions) + truth.offset
        if truth.config.noise:
            x += truth.config.noise * torch.from_numpy(random.standard_normal(x.shape, dtype=np.float32))
        return code, x


def _drawn(truth: Truth, random: np.random.Generator) -> RaggedCode:
    """The true code of a new block."""
    forest = truth.forest
    rows, which = causes.active_pairs(truth.causes, BLOCK, random)
    found_rows, found = [rows], [forest.free[which]]
    for _ in range(forest.depth):
        parents = forest.first_child[found[-1]] >= 0
        above, rows = found[-1][parents], found_rows[-1][parents]
        child = (random.random(len(above))[:, None] >= forest.cumulative[above]).sum(1)
        some = child < forest.cumulative.shape[1]
        found.append(forest.first_child[above[some]] + child[some])
        found_rows.append(rows[some])
    features, rows = np.concatenate(found), np.concatenate(found_rows)
    order = np.argsort(rows * len(forest.parents) + features)
    features, rows = features[order], rows[order]
    sizes = np.abs(truth.sizes[features] + truth.spreads[features] * random.standard_normal(len(features)))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=BLOCK))])
    values = torch.from_numpy(sizes).float()
    return RaggedCode(values, torch.from_numpy(features), torch.from_numpy(starts), (BLOCK,), len(forest.parents))


def _cuts(start: int, stop: int) -> list[tuple[int, slice]]:
    """The blocks of a range of rows, and what is taken of each."""
    if not 0 <= start <= stop:
        raise InputError(f"rows are counted from 0 upwards, got {start} to {stop}")
    blocks = range(start // BLOCK, -(-stop // BLOCK)) if stop > start else range(0)
    return [(b, slice(max(start - b * BLOCK, 0), min(stop - b * BLOCK, BLOCK))) for b in blocks]


def _cut(code: RaggedCode, inside: slice) -> RaggedCode:
    """Some rows of a block's code."""
    first, last = int(code.starts[inside.start]), int(code.starts[inside.stop])
    starts = code.starts[inside.start : inside.stop + 1] - first
    return RaggedCode(code.values[first:last], code.indices[first:last], starts, (len(starts) - 1,), code.d_sae)


def _joined(parts: list[RaggedCode], truth: Truth) -> RaggedCode:
    """Codes of rows that follow one another."""
    counts = torch.cat([torch.zeros(1, dtype=torch.int64), *(part.starts.diff() for part in parts)])
    values = torch.cat([torch.zeros(0), *(part.values for part in parts)])
    indices = torch.cat([torch.zeros(0, dtype=torch.int64), *(part.indices for part in parts)])
    return RaggedCode(values, indices, counts.cumsum(0), (len(counts) - 1,), truth.config.n_features)
