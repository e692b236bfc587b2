"""Parts to one harvest: the shards of all parts side by side, and what follows from all rows together.

`part.json` says of a part that it is whole and what was counted. A harvest by one process is a harvest of one part.
Sums are merged in the order of parts and shards, so the result does not depend on when what was computed.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sae.activations import health, scale
from sae.activations.config import Compression, Encoding
from sae.activations.contents import Contents, SiteContents
from sae.activations.counts import Counts
from sae.activations.finished import Finished, finished_shards, read_sums
from sae.activations.parts import Part
from sae.activations.shard_writer import Storage
from sae.core.artifact import keep_digests
from sae.core.config import Strict
from sae.core.errors import InputError, WorldError
from sae.core.splits import SPLITS
from sae.core.streams import Moments
from sae.lm.documents import TextCounts
from sae.lm.packing import Packing

FILE = "part.json"


class PartContents(Strict):
    """A part that is whole."""

    index: int
    n: int
    dtype: Encoding
    compression: Compression
    shard_rows: int
    n_vocabulary: int
    packing: Packing
    sites: tuple[SiteContents, ...]
    counts: dict[str, Any]
    thresholds: dict[str, float]
    exhausted: bool
    """Whether the text ended before `max_tokens`."""
    made_with: dict[str, Any]
    """Machine, threads and batch of the process that finished the part."""

    @property
    def part(self) -> Part:
        return Part(self.index, self.n)

    def storage(self, folder: Path) -> Storage:
        """How the part's shards are written."""
        return Storage(
            folder,
            self.sites,
            self.dtype,
            self.compression,
            self.shard_rows,
            self.n_vocabulary,
            self.packing.longest,
        )

    def counted(self) -> Counts:
        """What the part has seen."""
        return Counts(**{**self.counts, "texts": TextCounts(**self.counts["texts"])})

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_part_contents(folder: Path) -> PartContents | None:
    """What a folder says of a whole part; None where it is not whole."""
    try:
        return PartContents.model_validate_json((folder / FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        raise WorldError(f"{folder / FILE} is damaged; delete {folder} and harvest this part again") from None


@dataclass(frozen=True)
class Merged:
    """What came out of all parts together."""

    counts: Counts
    moments: Mapping[str, Moments]
    """Of the train split, per site."""
    encoding_fvu: Mapping[str, float]
    """For int8, per site: the share of the variance of the train rows that their encoding lost, if it is known."""


def complete(folder: Path, parts: Sequence[PartContents], show: Callable[[int], str]) -> Merged:
    """Writes what follows from all parts, whose files lie in `folder`, and last `contents.json`.

    Args:
        folder: holds the shards of all parts and the token stream.
        parts: in order.
        show: the text of a token id.

    Raises:
        InputError: no tokens, or a split without rows.
    """
    storage = parts[0].storage(folder)
    finished = [finished_shards(storage, contents.part) for contents in parts]
    shards = [shard for split in SPLITS for found in finished for shard in found[split]]
    counts = _counted(parts, shards)
    digests, sums, errors = {}, storage.sums("train"), {}
    for shard in shards:
        summed = read_sums(storage, shard)
        digests[shard.file] = summed.sha256
        for site, found in summed.sums.items():
            sums[site].merge(found)
            errors.setdefault(site, []).append(summed.errors.get(site, math.nan))
    moments = {site: of_site.moments for site, of_site in sums.items()}
    scale.write_moments(folder, moments)
    health.write(folder, sums, show)
    Contents(
        dtype=storage.dtype,
        compression=storage.compression,
        packing=parts[0].packing,
        sites=storage.sites,
        shards=tuple(shard.contents for shard in shards),
    ).write(folder)
    (folder / FILE).unlink(missing_ok=True)
    keep_digests(folder, digests)
    return Merged(counts, moments, _lost(storage, moments, errors))


def _counted(parts: Sequence[PartContents], shards: Sequence[Finished]) -> Counts:
    counts = parts[0].counted()
    for contents in parts[1:]:
        counts.merge(contents.counted())
    if counts.texts.n_tokens == 0:
        raise InputError("the text is empty: it gave no tokens")
    for split in SPLITS:
        counts.n_rows[split] = sum(shard.n_rows for shard in shards if shard.split == split)
        if counts.n_rows[split] == 0:
            raise InputError(
                f"the {split} split has no rows: {counts.n_documents_in[split]} of {counts.texts.n_documents} "
                f"documents fell into it; take more text, other fractions, or leave fewer rows out"
            )
    return counts


def _lost(storage: Storage, moments: Mapping[str, Moments], errors: Mapping[str, list[float]]) -> dict[str, float]:
    if storage.dtype != "int8":
        return {}
    lost = {site: sum(errors[site]) / (m.total_variance * m.count) for site, m in moments.items()}
    return {site: share for site, share in lost.items() if math.isfinite(share)}


def counts_of(counts: Counts) -> dict[str, Any]:
    """Plain values, for `PartContents`."""
    return dataclasses.asdict(counts)
