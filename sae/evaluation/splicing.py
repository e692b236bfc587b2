"""The model's next-token loss with its activations replaced by each contender's version of them.

1. The model as it is: activations at the sites that a dictionary reads (x) and writes (t; the same place but for a
   transcoder), log-probabilities of every next token within a document.
2. For each contender: y in place of t at the harvested positions only (special tokens and whatever the harvest left
   out stay as they are), and the log-probabilities again. A crosscoder's sites are all replaced at once.
3. Cross-entropy of both and KL(model ‖ spliced) are added to the sums of the token's document; no logits are kept.

A contender's y is computed once and serves both its reconstruction error and its splice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sae.core.measures import cosine
from sae.dictionary.sites import SpliceSites
from sae.evaluation.contenders import Contender, Reconstruction, lengths_of, reconstruct
from sae.evaluation.sums import SUMS, Column, ContenderSums, TextSums
from sae.evaluation.usage import LatentUsage
from sae.lm.hooks import Context, editing, reading
from sae.lm.load import LoadedModel
from sae.lm.packing import Packed

_LONGEST = 2**32
"""More than the tokens of any document."""
_CHUNK_CELLS = 2**22
"""Largest number of probabilities whose KL terms are held at once."""


class Window(NamedTuple):
    """A batch of packed windows, and what of it counts."""

    packed: Packed
    """The tokens and the documents that they belong to."""
    units: Int[Tensor, "batch position"]
    """Number of the resampled document, from 0; −1 on padding."""
    harvested: Bool[Tensor, "batch position"]
    """Where activations are replaced."""

    def to(self, device: torch.device) -> "Window":
        """The same batch elsewhere."""
        return Window(self.packed.to(device), self.units.to(device), self.harvested.to(device))

    def targets(self) -> Bool[Tensor, "batch position"]:
        """Positions whose next token is predicted: it belongs to the same document."""
        documents = self.packed.documents
        follows = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)
        return torch.nn.functional.pad(follows, (0, 1))

    def places(self) -> Int[Tensor, "token"]:
        """A number for every harvested token, of its document and its position there, whatever the batch."""
        return (self.packed.documents.long() * _LONGEST + self.packed.positions)[self.harvested]


class _Columns:
    """The sums of one contender in the making."""

    def __init__(self, contender: Contender, n_documents: int) -> None:
        self.contender = contender
        self.sums = {name: Column(n_documents) for name in SUMS}
        self.usage = LatentUsage(lengths_of(contender), n_documents)

    def add(self, units: Int[Tensor, "token"], values: Mapping[str, Shaped[Tensor, "token"]]) -> None:
        """Adds values per token to the sums of their names."""
        for name, value in values.items():
            self.sums[name].add(units, value)

    def result(self) -> ContenderSums:
        return ContenderSums(**{name: column.numpy() for name, column in self.sums.items()}, usage=self.usage)


@dataclass(frozen=True)
class _Truth:
    """The model's own predictions in one batch."""

    log_p: Float[Tensor, "target vocab"]
    next_ids: Int[Tensor, "target"]
    units: Int[Tensor, "target"]

    def ce(self, log_q: Float[Tensor, "target vocab"]) -> Float[Tensor, "target"]:
        return -log_q.gather(1, self.next_ids[:, None])[:, 0]

    def kl(self, log_q: Float[Tensor, "target vocab"]) -> Float[Tensor, "target"]:
        """Σ p (log p − log q), summed as it stands: exactly zero for equal predictions."""
        step = max(1, _CHUNK_CELLS // log_q.shape[1])
        pairs = zip(self.log_p.split(step), log_q.split(step), strict=True)
        return torch.cat([(p.exp() * (p - q)).sum(1) for p, q in pairs])


class SplicedLoss:
    """Sums per document of every contender at the sites of a dictionary.

    Args:
        model: the language model.
        sites: what contenders read, and where they are spliced in.
        contenders: by name.
        n_documents: number of resampled documents.
        centre: [d], a vector near the mean of what is written, about which squares are summed.
    """

    def __init__(
        self,
        model: LoadedModel,
        sites: SpliceSites,
        contenders: Mapping[str, Contender],
        n_documents: int,
        centre: Float[Tensor, "d"],
    ) -> None:
        self._model, self._sites, self._centre = model, sites, centre.double()
        self._columns = {name: _Columns(contender, n_documents) for name, contender in contenders.items()}
        self._n_tokens, self._squares, self._norms = (Column(n_documents) for _ in range(3))
        self._n_targets, self._ce = Column(n_documents), Column(n_documents)
        self._sums = Column(n_documents, len(centre))

    @torch.no_grad()
    def update(self, window: Window) -> None:
        """Adds one batch."""
        window = window.to(self._model.device)
        if not bool(window.targets().any()):
            return
        with reading(self._model, self._sites.all, stop=False) as captured:
            logits = self._logits(window)
        x, target = (_beside([captured[site] for site in sites], window) for sites in self._sites)
        self._add_text(target, window.units[window.harvested])
        truth = self._truth(window, logits)
        for columns in self._columns.values():
            made = reconstruct(columns.contender, x, target, window.places())
            self._add_contender(columns, window, made, target)
            self._add_spliced(columns, window, self._edited(window, captured, made.y), truth)

    def _logits(self, window: Window) -> Float[Tensor, "batch position vocab"]:
        return self._model(**window.packed.inputs(self._model.device)).logits

    def _truth(self, window: Window, logits: Float[Tensor, "batch position vocab"]) -> _Truth:
        targets = window.targets()
        next_ids = window.packed.input_ids.roll(-1, dims=1)[targets]
        truth = _Truth(_log_softmax(logits[targets]), next_ids, window.units[targets])
        self._n_targets.add(truth.units, torch.ones(len(next_ids)))
        self._ce.add(truth.units, truth.ce(truth.log_p))
        return truth

    def _add_text(self, rows: Float[Tensor, "token d"], units: Int[Tensor, "token"]) -> None:
        centred = rows.double() - self._centre
        self._n_tokens.add(units, torch.ones(len(rows)))
        self._squares.add(units, centred.square().sum(1))
        self._sums.add(units, centred)
        self._norms.add(units, rows.norm(dim=1))

    def _add_contender(
        self, columns: _Columns, window: Window, made: Reconstruction, target: Float[Tensor, "token d"]
    ) -> None:
        units = window.units[window.harvested]
        values = {
            "squared_error": (target.double() - made.y.double()).square().sum(1),
            "cosines": cosine(target, made.y),
            "norms": made.y.norm(dim=1),
            "n_active": made.n_active,
            "n_active_squared": made.n_active.square(),
        }
        columns.add(units, values)
        columns.usage.update(made.active, units.cpu().numpy())

    def _edited(self, window: Window, captured: Mapping[str, Tensor], y: Float[Tensor, "token d"]) -> dict[str, Tensor]:
        """What each site that is written becomes."""
        edited = {}
        parts = y.split([captured[site].shape[-1] for site in self._sites.written], dim=1)
        for site, part in zip(self._sites.written, parts, strict=True):
            edited[site] = captured[site].clone()
            edited[site][window.harvested] = part.to(edited[site].dtype)
        return edited

    def _add_spliced(self, columns: _Columns, window: Window, edited: Mapping[str, Tensor], truth: _Truth) -> None:
        edits = {site: partial(_replaced, value) for site, value in edited.items()}
        with editing(self._model, edits):
            log_q = _log_softmax(self._logits(window)[window.targets()])
        columns.add(truth.units, {"ce": truth.ce(log_q), "kl": truth.kl(log_q)})

    def text(self) -> TextSums:
        """The sums of the text so far."""
        columns = (self._n_tokens, self._squares, self._sums, self._norms, self._n_targets, self._ce)
        return TextSums(*(column.numpy() for column in columns))

    def contenders(self) -> dict[str, ContenderSums]:
        """The sums of every contender so far."""
        return {name: columns.result() for name, columns in self._columns.items()}


def _beside(captured: Sequence[Tensor], window: Window) -> Float[Tensor, "token d"]:
    """The harvested rows of several sites, side by side."""
    return torch.cat([x[window.harvested].float() for x in captured], dim=1)


def _replaced(value: Tensor, _x: Tensor, _context: Context) -> Tensor:
    return value


def _log_softmax(logits: Float[Tensor, "target vocab"]) -> Float[Tensor, "target vocab"]:
    """In place where the logits are float32 already: they are a copy of the model's, and large."""
    logits = logits.float()
    return logits.sub_(logits.logsumexp(1, keepdim=True))
