"""Text through a model to activations on disk.

1. Documents are taken in the order of their texts until `max_tokens` tokens, BOS included; the last one is cut to fit.
2. Each is cut into pieces, which wait with others of the split for the look-ahead; then they are packed into windows,
   so what is computed together follows from the order of the documents alone.
3. One forward pass a batch, which ends after the last site; rows that are not left out are checked, converted and
   appended to the split's shard. A piece's rows are consecutive.
4. The token stream, the moments of the train split and, last, `contents.json` complete the folder.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
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
from sae.activations.counts import Counts
from sae.activations.encoding import encode, rows_of, values
from sae.activations.split_writer import SplitWriter
from sae.core.errors import InputError, WorldError
from sae.core.splits import SPLITS, Split
from sae.core.streams import Moments
from sae.lm.corpus import Corpus, Text
from sae.lm.documents import Document, Documents, Piece
from sae.lm.hooks import reading
from sae.lm.load import LoadedModel
from sae.lm.packing import Packed, Packing, Rows, batches, is_encoder, isolates
from sae.lm.site import check_site
from sae.lm.tokens import prefix_of, special_ids

_DOCUMENTS_PER_WRITE = 4096


class Harvest:
    """One harvest into one folder; `run` does it, then `counts` and `moments` say what came out."""

    def __init__(self, loaded: LoadedModel, sites: Sequence[str], config: HarvestConfig, folder: Path) -> None:
        """Removes what an earlier, unfinished harvest left in `folder`.

        Raises:
            InputError: an unknown site, a tokenizer without the BOS asked for, a window that the model cannot read.
        """
        self.counts = Counts()
        self.moments: dict[str, Moments] = {}
        self.exhausted = False
        """Whether the text ended before `max_tokens`."""
        self._loaded, self._config, self._folder = loaded, config, folder
        self._sites = tuple(str(check_site(loaded.model, site)) for site in sites)
        self._special = torch.tensor(sorted(special_ids(loaded.tokenizer)))
        self._prefix = prefix_of(loaded.tokenizer, config.bos, is_encoder(loaded))
        begin, end = self._prefix.window, self._prefix.window_end
        self.packing = Packing(window=config.window, rows=_rows(loaded, config), prefix=begin, suffix=end)
        self._check_window()
        self._writers: dict[Split, SplitWriter] = {}
        self._open = ExitStack()
        self._d: dict[str, int] = {}
        _clear(folder)

    def _check_window(self) -> None:
        least, most = self._prefix.least_window, self._loaded.n_positions
        if not least <= self._config.window <= most:
            raise InputError(
                f"harvest.window {self._config.window} must lie between {least} and the model's {most} tokens"
            )

    def run(self, texts: Corpus | Iterable[Text], max_tokens: int | None = None) -> Iterator[Counts]:
        """Harvests, yielding the counts after every forward pass.

        Raises:
            InputError: no tokens, a split without rows, an unknown site, or a value too large for the dtype.
            WorldError: an activation that is not finite.
        """
        corpus = texts if isinstance(texts, Corpus) else Corpus(texts)
        fractions = self._config.fractions
        documents = Documents(self._loaded.tokenizer, corpus, self._prefix.document, fractions, max_tokens)
        self.counts.texts = documents.counts
        with self._open:
            tokens = stream.StreamWriter(self._folder, self._special.tolist())
            self._open.callback(tokens.close)
            for split, pieces in self._look_ahead(self._noted(documents, tokens)):
                self.counts.n_pieces += len(pieces)
                for packed in batches(pieces, self.packing, self._config.batch):
                    self._harvest(split, packed)
                    yield self.counts
            self._check_splits()
            self._finish()
        # A rest as short as BOS is not worth a document.
        n_tokens = self.counts.texts.n_tokens + len(self._prefix.document)
        self.exhausted = max_tokens is not None and n_tokens < max_tokens

    def _noted(self, documents: Documents, tokens: stream.StreamWriter) -> Iterator[Document]:
        """The documents, written to the token stream on their way."""
        waiting: list[Document] = []
        for document in documents:
            self.counts.n_documents_in[document.split] += 1
            waiting.append(document)
            if len(waiting) == _DOCUMENTS_PER_WRITE:
                tokens.append(waiting)
                waiting = []
            yield document
        tokens.append(waiting)
        self.counts.n_special = tokens.n_special

    def _look_ahead(self, documents: Iterable[Document]) -> Iterator[tuple[Split, list[Piece]]]:
        """Pieces of one split, as many as are packed together, what is left over last."""
        waiting: dict[Split, list[Piece]] = {split: [] for split in SPLITS}
        n_waiting = dict.fromkeys(SPLITS, 0)
        for document in documents:
            split = document.split
            for piece in document.pieces(self.packing.longest):
                waiting[split].append(piece)
                n_waiting[split] += len(piece.ids)
                if n_waiting[split] >= self.packing.look_ahead:
                    yield split, waiting[split]
                    waiting[split], n_waiting[split] = [], 0
        for split in SPLITS:
            if waiting[split]:
                yield split, waiting[split]

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
            self._d[site] = x.shape[1]
            stored = encode(x.cpu(), self._config.dtype)
            numbers = values(rows_of(stored, self._config.dtype), self._config.dtype)
            if not torch.isfinite(numbers).all():
                raise _not_finite(site, x.cpu(), numbers, columns)
            if split == "train":
                self.moments.setdefault(site, Moments(x.shape[1])).update(numbers)
            columns[site] = stored
        self._writer(split, columns).append(columns)
        self.counts.n_rows[split] += len(columns["document"])
        self.counts.n_forward += int(packed.valid.sum())
        self.counts.n_padding += int(packed.padding.sum())
        self.counts.n_prefix += int((~packed.valid & ~packed.padding).sum())

    def _kept(self, packed: Packed) -> Bool[Tensor, "batch window"]:
        exclude: Exclude = self._config.exclude
        special = packed.valid & torch.isin(packed.input_ids, self._special)
        special &= torch.tensor(exclude.special)
        first = packed.valid & ~special & (packed.position_ids < exclude.first)
        self.counts.n_special_excluded += int(special.sum())
        self.counts.n_first_excluded += int(first.sum())
        return packed.valid & ~special & ~first

    def _writer(self, split: Split, columns: dict[str, np.ndarray]) -> SplitWriter:
        if split not in self._writers:
            sites = tuple(SiteContents(name=site, d=self._d[site]) for site in self._sites)
            writer = SplitWriter(self._folder, split, sites, self._config.dtype, self._config.shard_rows)
            self._open.callback(writer.abandon)
            self._writers[split] = writer
        return self._writers[split]

    def _check_splits(self) -> None:
        counts = self.counts
        if counts.texts.n_tokens == 0:
            raise InputError("the text is empty: it gave no tokens")
        for split in SPLITS:
            if counts.n_rows[split] == 0:
                raise InputError(
                    f"the {split} split has no rows: {counts.n_documents_in[split]} of {counts.texts.n_documents} "
                    f"documents fell into it; take more text, other fractions, or leave fewer rows out"
                )

    def _finish(self) -> None:
        shards = tuple(shard for split in SPLITS for shard in self._writers[split].finish())
        self._open.close()
        scale.write_moments(self._folder, self.moments)
        config, sites = self._config, self._writers["train"].sites
        Contents(dtype=config.dtype, packing=self.packing, sites=sites, shards=shards).write(self._folder)


def _rows(loaded: LoadedModel, config: HarvestConfig) -> Rows:
    """Several pieces a window, or one where the model would let them see one another."""
    if not config.isolate:
        return "shared"
    return "isolated" if isolates(loaded) else "single"


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
        largest = float(x[row].abs().max())
        return InputError(
            f"{largest:.3g} at {where} is too large for float16: harvest.dtype must be bfloat16 or float32"
        )
    return WorldError(f"activation not finite at {where}; nothing was kept")


def _clear(folder: Path) -> None:
    """Removes what an unfinished harvest left."""
    left = [folder / name for name in (listing.FILE, stream.FILE, scale.FILE)]
    for split in SPLITS:
        left += [*folder.glob(f"{split}-*.h5"), *folder.glob(f"{split}-*.h5.part")]
    for file in left:
        file.unlink(missing_ok=True)
