"""What a model says next, with and without a push on its activations.

1. An edit of one site cannot change that site's own activations elsewhere, so what an edit adds to each position is
   known before the run: its *displacement* Δ, with x ← x + Δ. Steering, ablating, clamping by delta and patching are
   all displacements, and hundreds of them share one batched forward pass.
2. The consequence is read as log-odds: the logit of a label's first token less the logsumexp of the other labels'
   first tokens, at the place of prediction. It is the log of p(label)/p(other labels): what the model thinks of words
   that express no label does not enter.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.intervention import add
from sae.lm.hooks import editing, reading
from sae.lm.load import LoadedModel
from sae.probe.prompt import Prompt, by_length, padded

N_TOKENS = 8192
"""Positions in a forward pass."""

Displacement = Callable[[int], Float[Tensor, "token d"]]
"""What to add to the site at every token of the prompt of a given index."""


def read_site(loaded: LoadedModel, site: str, prompts: Sequence[Prompt]) -> list[Float[Tensor, "_token d"]]:
    """The site's activations at every token of every prompt, float32, on the CPU."""
    out: list[Tensor] = [torch.empty(0)] * len(prompts)
    for batch in by_length([len(p.ids) for p in prompts], N_TOKENS):
        inputs = padded([prompts[i].ids for i in batch], loaded.device)
        with reading(loaded, [site]) as captured:
            loaded(**inputs._asdict(), use_cache=False)
        x = captured[site].float().cpu()
        for row, i in zip(x, batch, strict=True):
            out[i] = row[len(row) - len(prompts[i].ids) :].clone()  # a view would keep the whole batch alive
    return out


def label_logits(
    loaded: LoadedModel, prompts: Sequence[Prompt], site: str, displacement: Displacement | None = None
) -> Float[np.ndarray, "prompt label"]:
    """Logit of each label's first token at the place of prediction; −inf for a label that has none there.

    Args:
        loaded: the model.
        prompts: texts with a consequence.
        site: where the displacement is added.
        displacement: for each prompt; None leaves the model alone.
    """
    out = np.empty((len(prompts), len(prompts[0].label_tokens)))
    for batch in by_length([len(p.ids) for p in prompts], N_TOKENS):
        logits = _last_logits(
            loaded, [prompts[i] for i in batch], site, [displacement(i) for i in batch] if displacement else None
        )
        tokens = torch.tensor([prompts[i].label_tokens for i in batch])
        chosen = logits.gather(1, tokens.clamp_min(0)).masked_fill(tokens < 0, -torch.inf)
        out[batch] = chosen.double().numpy()
    return out


@torch.no_grad()
def _last_logits(
    loaded: LoadedModel, prompts: Sequence[Prompt], site: str, displacements: Sequence[Tensor] | None
) -> Float[Tensor, "prompt vocab"]:
    inputs = padded([prompt.ids for prompt in prompts], loaded.device)
    call: dict[str, Any] = {**inputs._asdict(), "use_cache": False, "logits_to_keep": 1}
    if displacements is None:
        return loaded(**call).logits[:, -1].float().cpu()
    with editing(loaded, {site: add(stacked(displacements))}):
        return loaded(**call).logits[:, -1].float().cpu()


def stacked(displacements: Sequence[Float[Tensor, "_token d"]]) -> Float[Tensor, "batch position d"]:
    """Displacements by their position in the text, as `sae.intervention.add` reads them; zero behind its end."""
    out = torch.zeros(len(displacements), max(map(len, displacements)), displacements[0].shape[1])
    for row, one in zip(out, displacements, strict=True):
        row[: len(one)] = one
    return out


def log_odds(logits: Float[np.ndarray, "*n label"], label: Int[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Logit of one label per row less the logsumexp of the others."""
    index = label[..., None]
    others = logits.copy()
    np.put_along_axis(others, index, -np.inf, -1)
    return np.take_along_axis(logits, index, -1)[..., 0] - np.logaddexp.reduce(others, -1)
