"""Text through a model to activations on disk.

1. Documents are taken in the order of their texts until `max_tokens` tokens, BOS included; the last one is cut to fit.
2. Each is cut into pieces, which wait with others of the split for the look-ahead; then they are packed into windows,
   so what is computed together follows from the order of the documents alone.
3. One forward pass a batch, which ends after the last site. A thread of its own drops rows for what their numbers are,
   encodes the others, sums over them and writes them, while the next batch is computed.
4. A shard that has its name is whole. A harvest that begins in a folder with whole shards reads and packs the text
   again, which is cheap, and computes only the windows of the rows that are missing.
5. `sae.activations.merge` completes the folder: one part or several make a harvest.
"""

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from sae.activations import stream
from sae.activations.background import Background
from sae.activations.config import HarvestConfig, check_parts
from sae.activations.counts import Counts
from sae.activations.filters import CALIBRATION_TOKENS, ByNumbers, ByToken
from sae.activations.finished import finished_shards, gaps
from sae.activations.merge import Merged, PartContents, complete, counts_of
from sae.activations.parts import WHOLE, Part
from sae.activations.passes import Passes
from sae.activations.place import Gap
from sae.activations.rows import Candidates
from sae.activations.shard_writer import Storage, remove_unfinished
from sae.activations.split_writer import SplitWriter
from sae.core.errors import InputError
from sae.core.splits import SPLITS, Split
from sae.lm.corpus import Corpus, Text
from sae.lm.documents import Document, Documents, Piece
from sae.lm.load import LoadedModel
from sae.lm.packing import Packed, Packing, Rows, batches, is_encoder, isolates
from sae.lm.site import check_site
from sae.lm.tokens import prefix_of, special_ids

_DOCUMENTS_PER_WRITE = 4096


class Harvest:
    """One harvest, or one part of it, into one folder; `run` does it, then `counts` and `merged` say what came out."""

    def __init__(
        self, loaded: LoadedModel, sites: Sequence[str], config: HarvestConfig, folder: Path, part: Part = WHOLE
    ) -> None:
        """Goes on with whole shards that an earlier, unfinished harvest of the same configuration left in `folder`.

        Raises:
            InputError: an unknown site, a tokenizer without the BOS asked for, a window that the model cannot read,
                what parts cannot keep.
        """
        check_parts(config, part.n)
        self.counts = Counts()
        self.exhausted = False
        """Whether the text ended before `max_tokens`."""
        self.n_found = 0
        """Rows of whole shards that were there before."""
        self._merged: Merged | None = None
        self._contents: PartContents | None = None
        self._part, self._loaded, self._config, self._folder = part, loaded, config, folder
        special = torch.tensor(sorted(special_ids(loaded.tokenizer)))
        by_token = ByToken(special, config.exclude.special, config.exclude.first)
        names = tuple(str(check_site(loaded.model, site)) for site in sites)
        self._passes = Passes(loaded, names, by_token)
        self._prefix = prefix_of(loaded.tokenizer, config.bos, is_encoder(loaded))
        begin, end = self._prefix.window, self._prefix.window_end
        self.packing = Packing(window=config.window, rows=_rows(loaded, config), prefix=begin, suffix=end)
        self._check_window()
        remove_unfinished(folder)

    def _check_window(self) -> None:
        least, most = self._prefix.least_window, self._loaded.n_positions
        if not least <= self._config.window <= most:
            raise InputError(
                f"harvest.window {self._config.window} must lie between {least} and the model's {most} tokens"
            )
        if self._config.exclude.first >= self._config.window:
            raise InputError(
                f"harvest.exclude.first {self._config.exclude.first} leaves no row of a window of {self._config.window}"
            )

    @property
    def merged(self) -> Merged:
        """What follows from all rows; of a whole harvest that has run."""
        assert self._merged is not None
        return self._merged

    @property
    def contents(self) -> PartContents:
        """What the folder says of this part once it has run."""
        assert self._contents is not None
        return self._contents

    def run(self, texts: Corpus | Iterable[Text], max_tokens: int | None = None) -> Iterator[Counts]:
        """Harvests, yielding the counts after every batch.

        Raises:
            InputError: no tokens, a split without rows, an unknown site, compression without its library, or a value
                too large for the dtype.
            WorldError: an activation that is not finite.
        """
        corpus = texts if isinstance(texts, Corpus) else Corpus(texts)
        prefix, fractions = self._prefix.document, self._config.fractions
        documents = Documents(self._loaded.tokenizer, corpus, prefix, fractions, max_tokens)
        self.counts.texts = documents.counts
        storage = self._storage()
        following, thresholds = self._calibrated(documents)
        with ExitStack() as stack:
            tokens = stream.StreamWriter(self._folder, self._passes.by_token.special.tolist())
            stack.callback(tokens.close)
            work = _Work(storage, self._part, ByNumbers(self._config, thresholds), self._passes)
            stack.callback(work.abandon)
            self.n_found = work.n_found
            background = stack.enter_context(Background(1 if self._loaded.device.type == "cpu" else None))
            for split, pieces in self._look_ahead(self._noted(following, tokens)):
                self.counts.n_pieces += len(pieces)
                for packed in batches(pieces, self.packing, self._config.batch):
                    work.take(split, packed, self.counts, background)
                    yield self.counts
            background.wait()
            work.finish(self.counts)
        # A rest as short as BOS is not worth a document.
        n_tokens = self.counts.texts.n_tokens + len(prefix)
        self.exhausted = max_tokens is not None and n_tokens < max_tokens
        self._conclude(storage, thresholds)

    def _storage(self) -> Storage:
        config = self._config
        model: Any = self._loaded.model
        n_vocabulary = model.config.get_text_config().vocab_size
        sites = self._passes.contents()
        return Storage(
            self._folder,
            sites,
            config.dtype,
            config.compression,
            config.shard_rows,
            n_vocabulary,
            self.packing.longest,
        )

    def _calibrated(self, documents: Iterable[Document]) -> tuple[Iterator[Document], dict[str, float]]:
        """The documents, and the largest norm kept at each site, for which the first of them are read twice."""
        following, times = iter(documents), self._config.exclude.high_norm
        if not times:
            return following, {}
        first: list[Document] = []
        n_tokens = 0
        for document in following:
            first.append(document)
            n_tokens += len(document.ids)
            if n_tokens >= CALIBRATION_TOKENS:
                break
        medians = self._passes.medians(first, self.packing)
        return chain(first, following), {site: times * median for site, median in medians.items()}

    def _noted(self, documents: Iterable[Document], tokens: stream.StreamWriter) -> Iterator[Document]:
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
        """Pieces of this part and of one split, as many as are packed together, what is left over last."""
        waiting: dict[Split, list[Piece]] = {split: [] for split in SPLITS}
        n_waiting = dict.fromkeys(SPLITS, 0)
        for document in documents:
            if not self._part.owns(document.index):
                continue
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

    def _conclude(self, storage: Storage, thresholds: dict[str, float]) -> None:
        """Says that the part is whole; a part that is all completes the folder."""
        contents = PartContents(
            index=self._part.index,
            n=self._part.n,
            dtype=storage.dtype,
            compression=storage.compression,
            shard_rows=storage.shard_rows,
            n_vocabulary=storage.n_vocabulary,
            packing=self.packing,
            sites=storage.sites,
            counts=counts_of(self.counts),
            thresholds=thresholds,
            exhausted=self.exhausted,
            made_with=made_with(self._config),
        )
        contents.write(self._folder)
        self._contents = contents
        if self._part.n == 1:
            self._merged = complete(self._folder, [contents], self._loaded.tokenizer.decode)
            self.counts = self._merged.counts


class _Work:
    """Which windows are computed, and what becomes of their rows."""

    def __init__(self, storage: Storage, part: Part, by_numbers: ByNumbers, passes: Passes) -> None:
        finished = finished_shards(storage, part)
        self.n_found = sum(shard.n_rows for shards in finished.values() for shard in shards)
        self._finished = finished
        self._missing: dict[Split, list[Gap]] = {split: gaps(shards) for split, shards in finished.items()}
        self._writers = {split: SplitWriter(storage, split, self._missing[split], part) for split in SPLITS}
        self._by_numbers, self._passes = by_numbers, passes
        self._n_windows = dict.fromkeys(SPLITS, 0)
        self._computed_to: dict[Split, int] = {}

    def take(self, split: Split, packed: Packed, counts: Counts, background: Background) -> None:
        """Counts a batch and, where rows of it are missing, computes it and orders them written."""
        n, first = len(packed.input_ids), self._n_windows[split]
        self._n_windows[split] += n
        special, early = self._passes.by_token.masks(packed)
        counts.n_special_excluded += int(special.sum())
        counts.n_first_excluded += int(early.sum())
        if any(gap.meets(first, n) for gap in self._missing[split]):
            follows = self._computed_to.get(split, 0) == first
            keep = packed.valid & ~special & ~early
            candidates = self._passes.candidates(packed, keep, first, follows)
            background.do(partial(self._write, split, candidates))
            self._computed_to[split] = first + n
        counts.n_forward += int(packed.valid.sum())
        counts.n_padding += int(packed.padding.sum())
        counts.n_prefix += int((~packed.valid & ~packed.padding).sum())

    def _write(self, split: Split, candidates: Candidates) -> None:
        self._passes.copies.wait()
        self._writers[split].append(self._by_numbers.rows(split, candidates))

    def finish(self, counts: Counts) -> None:
        """Ends the last shards and adds up what was left out and what was kept."""
        for split in SPLITS:
            writer = self._writers[split]
            writer.finish(self._by_numbers.rest(split))
            shards = [*self._finished[split], *writer.finished]
            counts.n_rows[split] = sum(shard.n_rows for shard in shards)
            counts.n_high_norm_excluded += sum(shard.left_out[0] for shard in shards)
            counts.n_not_finite += sum(shard.left_out[1] for shard in shards)

    def abandon(self) -> None:
        """Drops shards that are not finished."""
        for writer in self._writers.values():
            writer.abandon()


def made_with(config: HarvestConfig) -> dict[str, str | int]:
    """What changes the last bits of results: kind of machine, threads, windows per pass."""
    return {"machine": platform.machine(), "threads": torch.get_num_threads(), "batch": config.batch}


def _rows(loaded: LoadedModel, config: HarvestConfig) -> Rows:
    """Several pieces a window, or one where the model would let them see one another."""
    if not config.isolate:
        return "shared"
    return "isolated" if isolates(loaded) else "single"
