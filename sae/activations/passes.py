"""Forward passes of packed windows to candidate rows on the host, and what is measured before the first of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.activations.contents import SiteContents
from sae.activations.filters import ByToken, norms_of
from sae.activations.rows import Candidates
from sae.core.errors import InputError
from sae.lm.documents import Document
from sae.lm.hooks import reading
from sae.lm.host import HostCopies
from sae.lm.load import LoadedModel
from sae.lm.packing import Packed, Packing, batches

CALIBRATION_BATCH = 32
"""Windows per pass while medians are measured, whatever `harvest.batch` is: all parts must find the same."""


@dataclass(frozen=True)
class Passes:
    """A model and the sites that are read from it."""

    loaded: LoadedModel
    sites: tuple[str, ...]
    by_token: ByToken
    copies: HostCopies = field(default_factory=HostCopies)

    def contents(self) -> tuple[SiteContents, ...]:
        """The sites with their widths, from a pass of a single token.

        Raises:
            InputError: a site has no row of numbers per token.
        """
        one = torch.zeros(1, 1, dtype=torch.long, device=self.loaded.device)
        with reading(self.loaded, self.sites) as captured:
            self.loaded(input_ids=one, use_cache=False)
        keep = torch.ones(1, 1, dtype=torch.bool)
        return tuple(SiteContents(name=s, d=kept_rows(s, captured[s], keep).shape[1]) for s in self.sites)

    def candidates(
        self, packed: Packed, keep: Bool[Tensor, "batch window"], first_window: int, follows: bool
    ) -> Candidates:
        """One forward pass; from a GPU the numbers are on the host once `copies.wait` returned.

        Args:
            packed: the batch.
            keep: the tokens that give rows.
            first_window: number of its first window within the split.
            follows: whether the batch before it was computed as well.
        """
        with reading(self.loaded, self.sites) as captured:
            self.loaded(**packed.inputs(self.loaded.device))
        numbers = torch.arange(first_window, first_window + len(keep))[:, None].expand(keep.shape)
        return Candidates(
            window=numbers[keep].numpy(),
            document=packed.documents[keep].numpy(),
            position=packed.positions[keep].numpy(),
            ids=packed.input_ids[keep].numpy(),
            sites={site: self.copies.of(kept_rows(site, captured[site], keep)) for site in self.sites},
            follows=follows,
        )

    def medians(self, documents: Iterable[Document], packing: Packing) -> dict[str, float]:
        """Median norm of the rows of each site, special tokens and first positions left out as in the harvest.

        Raises:
            InputError: no row is left.
        """
        pieces = (piece for document in documents for piece in document.pieces(packing.longest))
        norms: dict[str, list[np.ndarray]] = {site: [] for site in self.sites}
        for packed in batches(pieces, packing, CALIBRATION_BATCH):
            found = self.candidates(packed, self.kept(packed), 0, follows=False)
            self.copies.wait()
            for site, x in found.sites.items():
                norms[site].append(norms_of(x))
        if not sum(map(len, norms[self.sites[0]])):
            raise InputError("harvest.exclude.high_norm: no row is left from which a median could be taken")
        return {site: float(np.nanmedian(np.concatenate(several))) for site, several in norms.items()}

    def kept(self, packed: Packed) -> Bool[Tensor, "batch window"]:
        """The tokens of a batch that give rows."""
        special, first = self.by_token.masks(packed)
        return packed.valid & ~special & ~first


def kept_rows(site: str, captured: Tensor, keep: Bool[Tensor, "batch window"]) -> Float[Tensor, "row d"]:
    """The kept rows of one site.

    Raises:
        InputError: the site has no row of numbers per token.
    """
    if captured.shape[:2] != keep.shape or captured.ndim < 3:
        raise InputError(f"site {site} cannot be harvested: its shape {list(captured.shape)} is not one row per token")
    rows = torch.nonzero(keep.flatten()).squeeze(1)
    return captured.flatten(2).flatten(0, 1).index_select(0, rows.to(captured.device))
