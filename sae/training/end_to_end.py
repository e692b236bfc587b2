"""What the model loses with the dictionary in place of its activations, as a term of the loss.

    kl    mean over next tokens of KL(model ‖ model with y in place of t)
    ce    mean over next tokens of the cross-entropy of the model with y in place of t

Braun et al. 2024, "Identifying functionally important features with end-to-end sparse dictionary learning",
arXiv:2405.12241; beside the reconstruction error of any preset. The model's own weights get no gradient. y is in
place of the harvested positions only; predictions are of next tokens within a document.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae.activations.text_windows import TextBatch, TextWindows
from sae.dictionary import Dictionary
from sae.dictionary.scale import Scales, over_columns
from sae.dictionary.sites import SpliceSites
from sae.lm.context import Context
from sae.lm.hooks import editing, reading
from sae.lm.load import LoadedModel
from sae.training.state import scaled


class EndToEnd:
    """The term of a run.

    Args:
        model: what the dictionary is spliced into.
        sites: what it reads and writes there.
        windows: text by step.
        kind: what is compared.
        weight: of the loss in nats a token.
    """

    def __init__(
        self, model: LoadedModel, sites: SpliceSites, windows: TextWindows, kind: Literal["kl", "ce"], weight: float
    ) -> None:
        self._model, self._sites, self._windows, self._kind, self._weight = model, sites, windows, kind, weight

    def loss(self, dictionary: Dictionary, scales: Scales, step: int) -> Float[Tensor, ""]:
        """The weighted loss on the windows of a step; differentiable in the dictionary, which reads scaled input."""
        text = self._windows.batch(step)
        inputs, targets = text.packed.inputs(self._model.device), _targets(text)
        with reading(self._model, self._sites.all, stop=False) as captured:
            clean = self._model(**inputs).logits[targets].float().log_softmax(-1)
        rows = torch.cat([captured[site][text.harvested].float() for site in self._sites.all], dim=1)
        where = dictionary.b_dec.device
        rows = rows.to(where)
        y = self._written(dictionary, scales, rows)
        widths = [captured[site].shape[-1] for site in self._sites.written]
        edits = {}
        for site, part in zip(self._sites.written, y.split(widths, dim=1), strict=True):
            edits[site] = _Put(text.harvested, part)
        with editing(self._model, edits):
            spliced = self._model(**inputs).logits[targets].float().log_softmax(-1)
        if self._kind == "kl":
            return self._weight * (clean.exp() * (clean - spliced)).sum(-1).mean().to(where)
        next_ids = text.packed.input_ids.roll(-1, dims=1).to(spliced.device)[targets]
        return -self._weight * spliced.gather(1, next_ids[:, None]).mean().to(where)

    def _written(self, dictionary: Dictionary, scales: Scales, rows: Tensor) -> Tensor:
        """What the dictionary writes, in the units of the model."""
        x = scaled(dictionary.config, scales, rows).x
        return dictionary(x) / over_columns(scales.target, dictionary.config.widths).to(x)


class _Put:
    """An edit that puts rows where activations were harvested."""

    def __init__(self, harvested: Tensor, rows: Tensor) -> None:
        self._harvested, self._rows = harvested, rows

    def __call__(self, x: Tensor, _context: Context) -> Tensor:
        place = self._harvested.to(x.device)
        return x.masked_scatter(place[..., None], self._rows.to(x))


def _targets(text: TextBatch) -> Tensor:
    """Positions whose next token is predicted: it belongs to the same document."""
    documents = text.packed.documents
    follows = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)
    return torch.nn.functional.pad(follows, (0, 1))
