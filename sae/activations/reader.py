"""An activations folder, read back: rows in order, by number, or run by run; and the tokens behind them.

Rows of a split are numbered through its shards, in the order in which they were harvested.
"""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int, Int32, Shaped
from torch import Tensor

from sae.activations.config import Encoding
from sae.activations.contents import read_contents
from sae.activations.encoding import STORED, rows_of, values, width
from sae.activations.scale import SiteMoments, read_moments
from sae.activations.shard import Shard
from sae.activations.stream import TokenStream
from sae.core.errors import InputError, nearest
from sae.core.splits import SPLITS, Split
from sae.kernels.aligned import aligned_empty

_SO_LARGE = 4
"""Times the machine's memory: of a site with more bytes the page cache holds a quarter at most."""


class Block(NamedTuple):
    """Consecutive rows of one site."""

    x: Float32[Tensor, "row d"]
    documents: Int32[np.ndarray, "row"]
    positions: Int32[np.ndarray, "row"]


class Activations:
    """The activations of one artifact's folder."""

    def __init__(self, folder: Path) -> None:
        """Opens and checks every shard.

        Raises:
            InputError: the folder holds no activations.
            WorldError: a file is missing, cut, or of another shape, dtype or format.
        """
        self.folder = Path(folder)
        contents = read_contents(self.folder)
        self.packing = contents.packing
        self.dtype: Encoding = contents.dtype
        self.tokens = TokenStream(self.folder)
        self._d = {site.name: site.d for site in contents.sites}
        self._shards: dict[Split, list[Shard]] = {split: [] for split in SPLITS}
        for entry in contents.shards:
            shard = Shard(self.folder / entry.file, entry.n_rows, contents.sites, contents.dtype)
            self._shards[entry.split].append(shard)
        self._bounds = {s: np.cumsum([0, *(shard.n_rows for shard in shards)]) for s, shards in self._shards.items()}
        most = _SO_LARGE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.past_memory = {split: any(self._n_bytes(split, site) > most for site in self._d) for split in SPLITS}
        """Of which splits short runs are read past the page cache, which could keep few of them for the next epoch."""

    def _n_bytes(self, split: Split, site: str) -> int:
        """Of a site's rows as stored."""
        return self.n_rows(split) * width(self._d[site], self.dtype) * STORED[self.dtype].itemsize

    @property
    def sites(self) -> tuple[str, ...]:
        """The harvested sites."""
        return tuple(self._d)

    def d(self, site: str) -> int:
        """Width of a site's rows."""
        self._check(site)
        return self._d[site]

    def n_rows(self, split: Split) -> int:
        """Rows of a split."""
        return int(self._bounds[split][-1])

    def moments(self, site: str) -> SiteMoments:
        """Mean and variance over the train split."""
        self._check(site)
        return read_moments(self.folder, site)

    def _check(self, site: str) -> None:
        if site not in self._d:
            hint = nearest(site, self._d)
            raise InputError(f"{self.folder} has no site {site!r}{hint}; it has {', '.join(self._d)}")

    def rows(self, split: Split, site: str, start: int = 0, stop: int | None = None) -> Float32[Tensor, "row d"]:
        """Rows [start, stop) of a split."""
        start, stop, _ = slice(start, stop).indices(self.n_rows(split))
        return values(self.stored_rows(split, site, np.array([[start, max(start, stop)]])), self.dtype)

    def take(self, split: Split, site: str, numbers: Int[np.ndarray, "row"]) -> Float32[Tensor, "row d"]:
        """Rows by number, in any order and as often as they are named; each is read once, in the order of the disk.

        Raises:
            InputError: the split has no row of such a number.
        """
        total = self.n_rows(split)
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < total:
            wrong = numbers[(numbers < 0) | (numbers >= total)][0]
            raise InputError(f"{self.folder} has no row {wrong} in its {split} split, which has {total} rows, from 0")
        unique, place = np.unique(numbers, return_inverse=True)
        read = self.stored_rows(split, site, runs_of(unique))
        return values(read.index_select(0, torch.from_numpy(place)), self.dtype)

    def stored_rows(self, split: Split, site: str, runs: Int[np.ndarray, "run 2"]) -> Shaped[Tensor, "row width"]:
        """Rows of several runs [start, stop), ascending, one after the other, as they are stored (see `values`)."""
        self._check(site)
        shape = (int((runs[:, 1] - runs[:, 0]).sum()), width(self._d[site], self.dtype))
        out = aligned_empty(shape, STORED[self.dtype])
        return self.read_into(out, split, site, runs, np.arange(len(out)))

    def read_into(
        self,
        out: Shaped[np.ndarray, "row width"],
        split: Split,
        site: str,
        runs: Int[np.ndarray, "run 2"],
        to: Int[np.ndarray, "row"],
    ) -> Shaped[Tensor, "row width"]:
        """As `stored_rows`, into memory of the stored type, which the result shares; `to` says where each row goes."""
        at = 0
        for shard, first, last in zip(self._shards[split], *self._edges(split), strict=True):
            inside = np.clip(runs, first, last) - first
            inside = inside[inside[:, 1] > inside[:, 0]]
            n = int((inside[:, 1] - inside[:, 0]).sum())
            if n:
                shard.read(site, inside, out, to[at : at + n], self.past_memory[split])
                at += n
        assert at == len(out), f"runs reach beyond the {self.n_rows(split)} rows of {split}"
        return rows_of(out, self.dtype)

    def _edges(self, split: Split) -> tuple[list[int], list[int]]:
        bounds = self._bounds[split].tolist()
        return bounds[:-1], bounds[1:]

    def documents(self, split: Split, start: int = 0, stop: int | None = None) -> Int32[np.ndarray, "row"]:
        """The document that each of the rows [start, stop) comes from."""
        return self._columns[split][0][start:stop]

    def positions(self, split: Split, start: int = 0, stop: int | None = None) -> Int32[np.ndarray, "row"]:
        """The position in its document of each of the rows [start, stop)."""
        return self._columns[split][1][start:stop]

    @cached_property
    def _columns(self) -> dict[Split, tuple[np.ndarray, np.ndarray]]:
        empty = np.zeros(0, np.int32)
        return {
            split: (
                np.concatenate([empty, *(shard.documents for shard in shards)]),
                np.concatenate([empty, *(shard.positions for shard in shards)]),
            )
            for split, shards in self._shards.items()
        }

    def token_ids(self, split: Split, start: int = 0, stop: int | None = None) -> Int32[np.ndarray, "row"]:
        """The token at each of the rows [start, stop)."""
        first = self.tokens.document_start[self.documents(split, start, stop)]
        return self.tokens.ids[first + self.positions(split, start, stop)]

    def blocks(self, split: Split, site: str, n: int = 8192) -> Iterator[Block]:
        """All rows of a split in order, at most `n` at a time."""
        for start in range(0, self.n_rows(split), n):
            x = self.rows(split, site, start, start + n)
            yield Block(x, self.documents(split, start, start + n), self.positions(split, start, start + n))

    def sample(self, split: Split, site: str, n: int) -> Float32[Tensor, "row d"]:
        """At most `n` rows, evenly spread over the split; the same ones every time."""
        total = self.n_rows(split)
        return self.take(split, site, np.unique(np.arange(min(n, total)) * total // max(1, min(n, total))))


def runs_of(numbers: Int[np.ndarray, "row"]) -> Int[np.ndarray, "run 2"]:
    """Ascending, distinct numbers as runs [start, stop)."""
    firsts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    lasts = np.flatnonzero(np.diff(numbers, append=-2) != 1)
    return np.stack([numbers[firsts], numbers[lasts] + 1], axis=1)
