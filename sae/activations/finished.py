"""What is finished of a harvest that goes on: whole shards and what was summed over them.

A shard says itself which rows it holds: `start` and `end` (see `sae.activations.place`) in its attributes. Beside it,
`<shard>.sums.beside` keeps what was summed while it was written and its checksum, until the artifact is published;
where that is missing it is made again from the shard.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sae.activations.contents import ShardContents
from sae.activations.encoding import STORED, rows_of, values, width
from sae.activations.hdf5 import DAMAGE
from sae.activations.parts import Part
from sae.activations.place import START, Gap, Place
from sae.activations.shard import CHUNK_ROWS, Shard
from sae.activations.shard_writer import Storage, Written
from sae.activations.stream import TokenStream
from sae.activations.sums import SiteSums
from sae.core.artifact import BESIDE, digest_of, sync
from sae.core.errors import WorldError
from sae.core.splits import SPLITS, Split

SUMS = f".sums{BESIDE}"


@dataclass(frozen=True)
class Finished:
    """A whole shard."""

    number: int
    start: Place
    end: Place
    n_rows: int
    left_out: tuple[int, int]
    """Rows left out on the way to its last row: of high norm, not finite."""
    file: str
    split: Split
    part: Part

    @property
    def contents(self) -> ShardContents:
        return ShardContents(file=self.file, split=self.split, n_rows=self.n_rows)


@dataclass(frozen=True)
class Summed:
    """What is known of a shard beside its rows."""

    sha256: str
    sums: Mapping[str, SiteSums]
    errors: Mapping[str, float] = field(default_factory=dict)
    """Per site Σ ‖x − stored‖² where it was measured."""


def finished_shards(storage: Storage, part: Part) -> dict[Split, list[Finished]]:
    """The whole shards of a part, by split, in order; one that cannot be read is removed, to be written again."""
    found: dict[Split, list[Finished]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        numbers = {path: part.number(split, path.name) for path in storage.folder.glob(f"{split}-*.h5")}
        for path, number in sorted(((p, n) for p, n in numbers.items() if n is not None), key=lambda pair: pair[1]):
            shard = _read(path, number, storage, split, part)
            if shard is None:
                path.unlink()
                path.with_name(path.name + SUMS).unlink(missing_ok=True)
            else:
                found[split].append(shard)
    return found


def _read(path: Path, number: int, storage: Storage, split: Split, part: Part) -> Finished | None:
    try:
        with h5py.File(path, "r") as file:
            start, end, left_out = (_pair(file, name) for name in ("start", "end", "left_out"))
            rows = file["document"]
            assert isinstance(rows, h5py.Dataset)
            n_rows = rows.shape[0]
        Shard(path, n_rows, storage.sites, storage.dtype)
    except (*DAMAGE, AssertionError, WorldError):
        return None
    return Finished(number, Place(*start), Place(*end), n_rows, left_out, path.name, split, part)


def _pair(file: h5py.File, name: str) -> tuple[int, int]:
    first, second = np.asarray(file.attrs[name]).tolist()
    return int(first), int(second)


def gaps(shards: list[Finished]) -> list[Gap]:
    """The missing shards of one split; the last gap is open."""
    missing, number, end = [], 0, START
    for shard in shards:
        if shard.number > number:
            missing.append(Gap(number, end, shard.start))
        number, end = shard.number + 1, shard.end
    return [*missing, Gap(number, end, None)]


def seal(written: Written) -> None:
    """Makes a full shard whole: hashed, synced, what was summed over it beside it, then given its name.

    Raises:
        OSError: the disk is full, or failed; the file is removed.
    """
    try:
        _keep_sums(written, written.synced())
        written.publish()
    except OSError:
        written.unnamed.unlink(missing_ok=True)
        raise


def _keep_sums(written: Written, sha256: str) -> None:
    tensors = {f"{site}.{name}": t for site, sums in written.sums.items() for name, t in sums.tensors().items()}
    path = written.path.with_name(written.path.name + SUMS)
    unfinished = path.with_name(path.name + ".part")
    facts = {"sha256": sha256, "errors": json.dumps(dict(written.errors))}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished, facts)
    sync(unfinished)
    unfinished.rename(path)


def read_sums(storage: Storage, shard: Finished) -> Summed:
    """What was summed over a shard; from the shard itself where that is lost, then without errors of encoding."""
    path = storage.folder / (shard.file + SUMS)
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError):
        return Summed(digest_of(storage.folder / shard.file), _summed_again(storage, shard))
    sums = {site: SiteSums.of(_under(tensors, site)) for site in storage.sums(shard.split)}
    return Summed(facts["sha256"], sums, json.loads(facts["errors"]))


def _under(tensors: Mapping[str, Tensor], site: str) -> dict[str, Tensor]:
    prefix = f"{site}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _summed_again(storage: Storage, shard: Finished) -> dict[str, SiteSums]:
    """The sums of the rows of a shard, in the chunks in which they were written; needs the token stream."""
    found = storage.sums(shard.split)
    if not found:
        return found
    read = Shard(storage.folder / shard.file, shard.n_rows, storage.sites, storage.dtype)
    tokens = TokenStream(storage.folder)
    for site in storage.sites:
        for first in range(0, shard.n_rows, CHUNK_ROWS):
            last = min(shard.n_rows, first + CHUNK_ROWS)
            out = np.empty((last - first, width(site.d, storage.dtype)), STORED[storage.dtype])
            read.read(site.name, np.array([[first, last]]), out, np.arange(last - first))
            documents, positions = read.documents[first:last], read.positions[first:last]
            ids = tokens.ids[tokens.document_start[documents] + positions]
            x = values(rows_of(out, storage.dtype), storage.dtype)
            found[site.name].update(x, positions, ids)
    return found


def remove_sums(folder: Path) -> None:
    """Removes what is kept only until an artifact is published, from a folder that is not to be one."""
    for file in folder.glob(f"*{SUMS}"):
        file.unlink()
