"""Text through a model to activations on disk.

1. Documents are taken in corpus order until `max_tokens` tokens, BOS included; the last one is cut to fit.
2. Each waits with others of its split until there are `BLOCK_TOKENS` of them; then they are packed into windows, so
   what is computed together follows from the order of the documents alone.
3. One forward pass a batch, which ends after the last site; rows that are not left out are checked, converted and
   appended to the split's shard. A document's rows are consecutive.
4. The token stream, the moments of the train split and, last, `contents.json` complete the folder.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.activations import contents as listing
from sae.activations import scale, stream
from sae.activations.config import Exclude, HarvestConfig
from sae.activations.contents import Contents, SiteContents
from sae.activations.encoding import TORCH, words
from sae.activations.split_writer import SplitWriter
from sae.core.errors import InputError, WorldError
from sae.core.splits import SPLITS, Split
from sae.core.streams import Moments
from sae.lm.hooks import reading
from sae.lm.load import LoadedModel
from sae.lm.site import check_site
from sae.lm.tokens import Document, Packed, Text, batches, prefix_ids, special_ids, tokenize

BLOCK_TOKENS = 1 << 18


@dataclass
class Counts:
    """What went in and what was left out."""

    n_documents: int = 0
    n_texts: int = 0
    n_tokens: int = 0
    n_forward: int = 0
    """Tokens that have been through the model so far."""
    n_padding: int = 0
    n_special_excluded: int = 0
    n_first_excluded: int = 0
    n_rows: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    n_documents_in: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))


class Harvest:
    """One harvest into one folder; `run` does it, then `counts` and `moments` say what came out."""

    def __init__(self, loaded: LoadedModel, sites: Sequence[str], config: HarvestConfig, folder: Path) -> None:
        """Removes what an earlier, unfinished harvest left in `folder`; raises InputError for an unknown site."""
        self.counts = Counts()
        self.moments: dict[str, Moments] = {}
        self.exhausted = False
        """Whether the text ended before `max_tokens`."""
        self._loaded, self._config, self._folder = loaded, config, folder
        self._sites = tuple(str(check_site(loaded.model, site)) for site in sites)
        self._special = torch.tensor(sorted(special_ids(loaded.tokenizer)))
        self._writers: dict[Split, SplitWriter] = {}
        self._open = ExitStack()
        _clear(folder)

    def run(self, texts: Iterable[Text], max_tokens: int | None = None) -> Iterator[Counts]:
        """Harvests, yielding the counts after every forward pass.

        Raises:
            InputError: no tokens, a split without rows, an unknown site, or a value too large for the dtype.
            WorldError: an activation that is not finite.
        """
        with self._open:
            tokens = stream.StreamWriter(self._folder, self._special.tolist())
            self._open.callback(tokens.close)
            for documents in self._blocks(self._documents(texts, max_tokens, tokens)):
                for packed in batches(documents, self._config.window, self._config.batch):
                    self._harvest(documents[0].split, packed)
                    yield self.counts
            self._check_splits()
            self._finish()
        n_prefix = len(prefix_ids(self._loaded.tokenizer))  # a rest as short as BOS is not worth a document
        self.exhausted = max_tokens is not None and self.counts.n_tokens + n_prefix < max_tokens

    def _documents(
        self, texts: Iterable[Text], max_tokens: int | None, tokens: stream.StreamWriter
    ) -> Iterator[Document]:
        """The corpus, noted in the token stream on its way."""
        config, counts = self._config, self.counts
        waiting: list[Document] = []
        for document in tokenize(self._loaded, texts, config.window, config.fractions, max_tokens):
            counts.n_documents += 1
            counts.n_documents_in[document.split] += 1
            counts.n_texts = max(counts.n_texts, document.source + 1)
            counts.n_tokens += len(document.ids)
            waiting.append(document)
            if len(waiting) == 4096:
                tokens.append(waiting)
                waiting = []
            yield document
        tokens.append(waiting)

    @staticmethod
    def _blocks(documents: Iterable[Document]) -> Iterator[list[Document]]:
        """Documents of one split, `BLOCK_TOKENS` tokens at a time, what is left over last."""
        waiting: dict[Split, list[Document]] = {split: [] for split in SPLITS}
        n_waiting = dict.fromkeys(SPLITS, 0)
        for document in documents:
            waiting[document.split].append(document)
            n_waiting[document.split] += len(document.ids)
            if n_waiting[document.split] >= BLOCK_TOKENS:
                yield waiting[document.split]
                waiting[document.split], n_waiting[document.split] = [], 0
        yield from (block for block in waiting.values() if block)

    def _harvest(self, split: Split, packed: Packed) -> None:
        """One batch: forward pass, selection, conversion, writing."""
        with reading(self._loaded, self._sites) as captured:
            self._loaded(**packed.inputs(self._loaded.device))
        keep = self._kept(packed)
        columns = {
            "document": packed.documents[keep].to(torch.int32).numpy(),
            "position": packed.positions[keep].to(torch.int32).numpy(),
        }
        for site in self._sites:
            x = kept_rows(site, captured[site], keep)
            stored = x.to(TORCH[self._config.dtype]).cpu()
            if not torch.isfinite(stored).all():
                raise _not_finite(site, x.cpu(), stored, columns)
            if split == "train":
                self.moments.setdefault(site, Moments(x.shape[1])).update(stored.float())
            columns[site] = words(stored)
        self._writer(split, columns).append(columns)
        self.counts.n_rows[split] += len(columns["document"])
        self.counts.n_forward += int(packed.valid.sum())
        self.counts.n_padding += int((~packed.valid).sum())

    def _kept(self, packed: Packed) -> Bool[Tensor, "batch window"]:
        exclude: Exclude = self._config.exclude
        special = packed.valid & torch.isin(packed.input_ids, self._special)
        special &= torch.tensor(exclude.special)
        first = packed.valid & ~special & (packed.positions < exclude.first)
        self.counts.n_special_excluded += int(special.sum())
        self.counts.n_first_excluded += int(first.sum())
        return packed.valid & ~special & ~first

    def _writer(self, split: Split, columns: dict[str, np.ndarray]) -> SplitWriter:
        if split not in self._writers:
            sites = tuple(SiteContents(name=site, d=columns[site].shape[1]) for site in self._sites)
            writer = SplitWriter(self._folder, split, sites, self._config.dtype, self._config.shard_rows)
            self._open.callback(writer.abandon)
            self._writers[split] = writer
        return self._writers[split]

    def _check_splits(self) -> None:
        counts = self.counts
        if counts.n_tokens == 0:
            raise InputError("the text is empty: it gave no tokens")
        for split in SPLITS:
            if counts.n_rows[split] == 0:
                raise InputError(
                    f"the {split} split has no rows: {counts.n_documents_in[split]} of {counts.n_documents} documents "
                    f"fell into it; take more text, other fractions, or leave fewer rows out"
                )

    def _finish(self) -> None:
        shards = tuple(shard for split in SPLITS for shard in self._writers[split].finish())
        self._open.close()
        scale.write_moments(self._folder, self.moments)
        config, sites = self._config, self._writers["train"].sites
        Contents(dtype=config.dtype, window=config.window, sites=sites, shards=shards).write(self._folder)


def kept_rows(site: str, captured: Tensor, keep: Bool[Tensor, "batch window"]) -> Float[Tensor, "row d"]:
    """The kept rows of one site.

    Raises:
        InputError: the site has no row of numbers per token.
    """
    if captured.shape[:2] != keep.shape or captured.ndim < 3:
        raise InputError(f"site {site} cannot be harvested: its shape {list(captured.shape)} is not one row per token")
    return captured.flatten(2)[keep.to(captured.device)]


def _not_finite(site: str, x: Tensor, stored: Tensor, columns: dict[str, Any]) -> Exception:
    """The error that names the first value which cannot be stored."""
    row = int(torch.nonzero(~torch.isfinite(stored).all(1))[0])
    where = f"document {columns['document'][row]}, position {columns['position'][row]}, site {site}"
    if torch.isfinite(x[row]).all():
        largest, dtype = float(x[row].abs().max()), str(stored.dtype).removeprefix("torch.")
        return InputError(
            f"{largest:.3g} at {where} is too large for {dtype}: harvest.dtype must be bfloat16 or float32"
        )
    return WorldError(f"activation not finite at {where}; nothing was kept")


def _clear(folder: Path) -> None:
    """Removes what an unfinished harvest left."""
    left = [folder / name for name in (listing.FILE, stream.FILE, scale.FILE)]
    for split in SPLITS:
        left += [*folder.glob(f"{split}-*.h5"), *folder.glob(f"{split}-*.h5.part")]
    for file in left:
        file.unlink(missing_ok=True)
