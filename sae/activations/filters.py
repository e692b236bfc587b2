"""Which rows are left out: by their token before the forward pass, by their numbers after it.

1. Special tokens, and the first positions that the model reads in every piece.
2. Rows whose norm is far above the median of their site, if asked for. The median is measured before the harvest on
   the first tokens of the text, so that it is the same for every part and every resume.
3. Rows that are not finite: they stop the harvest, or are dropped and counted.

A row is left out at all sites or at none, since sites share their rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.activations.config import HarvestConfig
from sae.activations.rows import Candidates, Rows
from sae.core.errors import InputError, WorldError
from sae.core.splits import Split
from sae.lm.packing import Packed

CALIBRATION_TOKENS = 16_384
_LARGEST_FLOAT16 = 65_504.0


@dataclass(frozen=True)
class ByToken:
    """Leaves out rows by their token and place."""

    special: Int[Tensor, "id"]
    """Ids that stand for no text."""
    exclude_special: bool
    first: int

    def masks(self, packed: Packed) -> tuple[Bool[Tensor, "batch window"], Bool[Tensor, "batch window"]]:
        """Which tokens of documents are left out as special tokens, and which others as first positions."""
        special = packed.valid & torch.isin(packed.input_ids, self.special)
        special &= torch.tensor(self.exclude_special)
        return special, packed.valid & ~special & (packed.position_ids < self.first)


@dataclass
class ByNumbers:
    """Drops rows by their numbers; keeps what was dropped since the last row of each split."""

    config: HarvestConfig
    thresholds: Mapping[str, float]
    """Largest norm that is kept, per site; none where no row is left out for its norm."""
    _waiting: dict[Split, Int[np.ndarray, "2"]] = field(default_factory=dict)

    def rows(self, split: Split, found: Candidates) -> Rows:
        """The rows that are kept.

        Raises:
            WorldError: a row is not finite and the configuration does not drop such rows.
            InputError: a number is too large for float16.
        """
        if not found.follows:
            self._waiting.pop(split, None)
        not_finite, high = self._dropped(found)
        keep = ~(not_finite | high)
        steps = np.stack([high & ~not_finite, not_finite], axis=1).cumsum(0)
        kept = np.flatnonzero(keep)
        before = np.concatenate([np.zeros((1, 2), np.int64), steps[kept]])
        left_out = np.diff(before, axis=0)
        self._carry(split, left_out, steps[-1] - before[-1] if len(steps) else np.zeros(2, np.int64))
        whole = len(kept) == len(keep)
        taken = torch.from_numpy(kept)
        window = found.window if whole else found.window[kept]
        return Rows(
            window=window,
            place=_places(window),
            document=found.document if whole else found.document[kept],
            position=found.position if whole else found.position[kept],
            ids=found.ids if whole else found.ids[kept],
            left_out=left_out,
            sites={site: x if whole else x[taken] for site, x in found.sites.items()},
        )

    def rest(self, split: Split) -> Int[np.ndarray, "2"]:
        """Rows dropped since the last row of a split: of high norm, not finite."""
        return self._waiting.get(split, np.zeros(2, np.int64))

    def _carry(self, split: Split, left_out: np.ndarray, rest: np.ndarray) -> None:
        waiting = self.rest(split)
        if len(left_out):
            left_out[0] += waiting
            self._waiting[split] = rest
        else:
            self._waiting[split] = waiting + rest

    def _dropped(self, found: Candidates) -> tuple[Bool[np.ndarray, "row"], Bool[np.ndarray, "row"]]:
        """Rows that are not finite, and rows of high norm; the norm of a row says both."""
        not_finite = np.zeros(len(found.window), bool)
        high = np.zeros(len(found.window), bool)
        for site, x in found.sites.items():
            norms = norms_of(x)
            here = ~np.isfinite(norms)
            if here.any():
                here &= ~torch.isfinite(x).all(1).numpy()
                if self.config.on_nonfinite == "stop" and here.any():
                    raise WorldError(
                        f"activation not finite at {_where(found, int(here.argmax()), site)}; the shards "
                        f"before it are kept; harvest.on_nonfinite: drop leaves such rows out"
                    )
                not_finite |= here
            if self.thresholds:
                high |= norms > self.thresholds[site]
            self._check_range(found, site, x, norms, not_finite | high)
        return not_finite, high

    def _check_range(self, found: Candidates, site: str, x: Tensor, norms: np.ndarray, dropped: np.ndarray) -> None:
        if self.config.dtype != "float16" or not (large := ~dropped & (norms > _LARGEST_FLOAT16)).any():
            return
        rows = np.flatnonzero(large)
        largest = x[torch.from_numpy(rows)].abs().amax(1).float()
        row = int(largest.argmax())
        if largest[row] > _LARGEST_FLOAT16:
            raise InputError(
                f"{float(largest[row]):.3g} at {_where(found, int(rows[row]), site)} is too large for float16: "
                f"harvest.dtype must be bfloat16 or float32"
            )


def norms_of(x: Float[Tensor, "row d"]) -> Float[np.ndarray, "row"]:
    """Euclidean norms in float32; not finite where a number of the row is not."""
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32).numpy()


def _places(window: Int[np.ndarray, "row"]) -> Int[np.ndarray, "row"]:
    """Number of each row within its window, from 1; windows stand together."""
    begins = np.flatnonzero(np.diff(window, prepend=-1))
    counts = np.diff(np.append(begins, len(window)))
    return np.arange(len(window)) - np.repeat(begins, counts) + 1


def _where(found: Candidates, row: int, site: str) -> str:
    return f"document {found.document[row]}, position {found.position[row]}, site {site}"
