"""What a push costs: mean KL(model ‖ pushed model) of the next token on neutral text, in nats per token.

An effect means little without its price: a push large enough does anything. So besides equal doses, directions are
compared at equal cost: the dose at which each spends the same budget, found by bisection (cost grows with dose).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.core.random import generator
from sae.intervention import add, except_tokens
from sae.lm.hooks import editing
from sae.lm.load import LoadedModel
from sae.lm.tokens import special_ids
from sae.probe.consequence import N_TOKENS
from sae.probe.prompt import Padded, by_length, padded

N_LOGITS = 1 << 25
"""Logits held at once, at most."""
N_HALVINGS = 10


class Cost(NamedTuple):
    """KL of every push, by document."""

    nats: Float[np.ndarray, "push document"]
    """Summed over the document's tokens."""
    n_tokens: Float[np.ndarray, "document"]

    @property
    def nats_per_token(self) -> Float[np.ndarray, "push"]:
        return self.nats.sum(1) / self.n_tokens.sum()


def push_costs(
    loaded: LoadedModel, site: str, documents: Sequence[Int[np.ndarray, "_token"]], vectors: Float[Tensor, "push d"]
) -> Cost:
    """KL(model ‖ model pushed along each vector), summed over the tokens of each document.

    Args:
        loaded: the model.
        site: where the vectors are added.
        documents: token ids of neutral text.
        vectors: what is added to every token that stands for text, in units of the site.
    """
    nats = np.empty((len(vectors), len(documents)))
    for batch in by_length([len(ids) for ids in documents], max(1, min(N_TOKENS, N_LOGITS // loaded.n_vocab))):
        inputs = padded([documents[i] for i in batch], loaded.device)
        before = _log_probabilities(loaded, inputs)
        per_pass = max(1, min(N_TOKENS, N_LOGITS // loaded.n_vocab) // inputs.input_ids.numel())
        for start in range(0, len(vectors), per_pass):
            some = vectors[start : start + per_pass]
            nats[start : start + len(some), batch] = _kl(loaded, site, inputs, before, some)
    return Cost(nats, np.array([len(ids) for ids in documents], dtype=np.float64))


@torch.no_grad()
def _log_probabilities(loaded: LoadedModel, inputs: Padded) -> Float[Tensor, "batch position vocab"]:
    return loaded(**inputs._asdict(), use_cache=False).logits.float().log_softmax(-1)


@torch.no_grad()
def _kl(
    loaded: LoadedModel,
    site: str,
    inputs: Padded,
    before: Float[Tensor, "batch position vocab"],
    vectors: Float[Tensor, "push d"],
) -> Float[np.ndarray, "push batch"]:
    repeated = Padded(*(field.repeat(len(vectors), 1) for field in inputs))
    each = vectors.float().repeat_interleave(len(before), dim=0)
    text = except_tokens(special_ids(loaded.tokenizer))
    with editing(loaded, {site: add(each, positions=text)}):
        after = _log_probabilities(loaded, repeated)
    after = after.view(len(vectors), *before.shape)
    kl = (before.exp() * (before - after)).sum(-1) * inputs.attention_mask
    return kl.sum(-1).double().cpu().numpy()


def doses_at_cost(
    cost: Callable[[Float[np.ndarray, "push"]], Float[np.ndarray, "push"]], n: int, budget: float, most: float
) -> Float[np.ndarray, "push"]:
    """For n directions at once, the largest dose up to `most` that stays within the budget, to one part in 64.

    Args:
        cost: nats per token at a dose for each direction.
        n: number of directions.
        budget: nats per token.
        most: the largest dose considered.
    """
    low, high = np.zeros(n), np.full(n, most)
    low = np.where(cost(high) <= budget, high, low)
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        within = cost(middle) <= budget
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return low


def neutral_documents(
    documents: Sequence[Int[np.ndarray, "_token"]], n: int, n_tokens: int, seed: int
) -> list[Int[np.ndarray, "_token"]]:
    """A random choice of documents, each cut to its first `n_tokens` tokens."""
    usable = [ids for ids in documents if len(ids) > 1]
    order = torch.randperm(len(usable), generator=generator(seed, "neutral text")).tolist()
    return [usable[i][:n_tokens] for i in order[:n]]
