"""Dose and response of one task: effect and cost of each direction at each dose, beside random directions.

1. Two directions push towards the target: the best latent's decoder row (with its sign) and the difference of means.
2. At every dose: the mean change of the target's log-odds over held-out texts, and the KL on neutral text.
3. Random directions get the same doses on the same texts; all targets of a variable share their runs.
4. Beside the fixed doses stands one per direction at which the cost, measured on validation text, reaches the
   budget: there directions are compared at equal cost. The random effects at it are interpolated between the doses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.core.config import Strict
from sae.core.records import Interval
from sae.core.uncertainty import bootstrap_ratio
from sae.lm.load import LoadedModel
from sae.probe.consequence import label_logits, log_odds
from sae.probe.control import rank_among
from sae.probe.prompt import Prompt
from sae.probe.score import by_document
from sae.steer.cost import Cost, doses_at_cost, push_costs
from sae.steer.push import pushed_logits


@dataclass(frozen=True, eq=False)
class Bench:
    """Where pushes are measured: the model, its site, neutral text, random directions."""

    loaded: LoadedModel
    site: str
    sigma: float
    """√(E‖x − μ‖²) of the site on the train split."""
    validation: Sequence[Int[np.ndarray, "_token"]]
    """Neutral documents on which doses are chosen."""
    test: Sequence[Int[np.ndarray, "_token"]]
    """Neutral documents on which costs are reported."""
    random: Float[Tensor, "random d"]
    """Unit vectors."""
    seed: int

    def cost(self, documents: Sequence[Int[np.ndarray, "_token"]], vectors: Float[Tensor, "push d"]) -> Cost:
        """KL of pushes, in units of σ."""
        return push_costs(self.loaded, self.site, documents, vectors * self.sigma)


class Target(NamedTuple):
    """A label to push towards, and the directions that should do it."""

    name: str
    label: int
    """Its index among the labels."""
    vectors: Float[Tensor, "direction d"]
    """Unit vectors that point towards it."""


class Texts(NamedTuple):
    """Test texts of one variable on which effects are measured."""

    prompts: Sequence[Prompt]
    document: Int[np.ndarray, "prompt"]
    before: Float[np.ndarray, "prompt label"]
    """Logits of the labels' first tokens without a push."""


class Response(Strict):
    """One direction at one dose; the fields that the file `dose_response.json` has."""

    target: str
    """The label that the push is towards."""
    direction: str
    dose: float
    """In units of σ, the spread of the site's activations."""
    at_equal_cost: bool
    """Whether the dose is the one that spends the budget on validation text, not one of the fixed doses."""
    effect: float
    """Mean change of the target's log-odds on test texts, nats."""
    low: float
    high: float
    kl_nats: float
    """Mean KL on neutral test text, nats per token."""
    kl_low: float
    kl_high: float
    random_mean: float
    """Mean effect of the random directions at the same dose."""
    random_low: float
    """Between these two lie 95 % of the random directions' effects."""
    random_high: float
    random_kl_nats: float
    """Mean KL of the random directions at the same dose, over those that were measured."""
    p: float
    """Rank of the effect among the random directions', both about their mean."""
    n_documents: int

    @property
    def interval(self) -> Interval:
        return Interval(low=self.low, high=self.high)


class Row(NamedTuple):
    """What was measured of one direction at one dose."""

    effects: Float[np.ndarray, "prompt"]
    document: Int[np.ndarray, "prompt"]
    nats: Float[np.ndarray, "neutral"]
    """KL summed over each neutral document."""
    n_tokens: Float[np.ndarray, "neutral"]
    random: Float[np.ndarray, "random"]
    """Mean effect of each random direction at the same dose."""


class Measured(NamedTuple):
    """A response with what it was computed from."""

    response: Response
    row: Row


class Null(NamedTuple):
    """Random directions at the fixed doses."""

    doses: Float[np.ndarray, "dose"]
    """Ascending, from 0."""
    logits: Float[np.ndarray, "dose random prompt label"]
    kl_nats: Float[np.ndarray, "dose"]


def texts_of(bench: Bench, prompts: Sequence[Prompt], document: Int[np.ndarray, "prompt"]) -> Texts:
    """Test texts with the logits of the model left alone."""
    return Texts(prompts, document, label_logits(bench.loaded, prompts, bench.site))


def random_costs(bench: Bench, doses: Sequence[float], n_costed: int = 3) -> Float[np.ndarray, "dose"]:
    """KL of the first few random directions at each dose, their mean; no variable is needed for it."""
    some = bench.random[:n_costed]
    pushes = torch.cat([some * dose for dose in sorted(doses)])
    return bench.cost(bench.test, pushes).nats_per_token.reshape(len(doses), len(some)).mean(1)


def random_responses(bench: Bench, texts: Texts, doses: Sequence[float], costs: Float[np.ndarray, "dose"]) -> Null:
    """All random directions at all doses on one variable's texts; all of its targets share them."""
    pushes = torch.cat([bench.random * dose for dose in sorted(doses)]) * bench.sigma
    logits = pushed_logits(bench.loaded, bench.site, texts.prompts, pushes)
    logits = logits.reshape(len(doses), len(bench.random), *texts.before.shape)
    alone = np.broadcast_to(texts.before, (1, *logits.shape[1:]))
    return Null(np.array([0.0, *sorted(doses)]), np.concatenate([alone, logits]), np.array([0.0, *costs]))


def responses(
    bench: Bench, texts: Texts, target: Target, names: tuple[str, ...], null: Null, budget: float
) -> list[Measured]:
    """All directions towards one target, at the fixed doses and at equal cost."""
    fixed = null.doses[1:]
    equal = equal_cost_doses(bench, target.vectors, budget, fixed.max())
    levels = np.concatenate([np.tile(fixed, (len(names), 1)), equal[:, None]], 1)  # [direction, dose]
    pushes = (target.vectors[:, None] * torch.as_tensor(levels, dtype=torch.float32)[..., None]).flatten(0, 1)
    effects = _effects(texts, target, pushed_logits(bench.loaded, bench.site, texts.prompts, pushes * bench.sigma))
    costs = bench.cost(bench.test, pushes)
    by_random = _effects(texts, target, null.logits).mean(-1)  # [dose, random]
    rows = []
    for i, dose in enumerate(levels.flatten().tolist()):
        at_equal_cost = i % levels.shape[1] == len(fixed)
        beside = np.array([np.interp(dose, null.doses, column) for column in by_random.T])
        row = Row(effects[i], texts.document, costs.nats[i], costs.n_tokens, beside)
        random_kl = float(np.interp(dose, null.doses, null.kl_nats))
        response = _response(row, target.name, names[i // levels.shape[1]], dose, at_equal_cost, random_kl, bench.seed)
        rows.append(Measured(response, row))
    return rows


def equal_cost_doses(
    bench: Bench, vectors: Float[Tensor, "direction d"], budget: float, most: float
) -> Float[np.ndarray, "direction"]:
    """For each direction the dose that spends the budget on validation text."""

    def cost(doses: Float[np.ndarray, "direction"]) -> Float[np.ndarray, "direction"]:
        scaled = vectors * torch.as_tensor(doses, dtype=torch.float32)[:, None]
        return bench.cost(bench.validation, scaled).nats_per_token

    return doses_at_cost(cost, len(vectors), budget, most)


def _effects(
    texts: Texts, target: Target, logits: Float[np.ndarray, "*push prompt label"]
) -> Float[np.ndarray, "*push prompt"]:
    """Change of the target's log-odds."""
    label = np.full(logits.shape[:-1], target.label)
    return log_odds(logits, label) - log_odds(texts.before, label[(0,) * (label.ndim - 1)])


def _response(
    row: Row, target: str, name: str, dose: float, at_equal_cost: bool, random_kl: float, seed: int
) -> Response:
    sums, counts = by_document(row.effects, row.document)
    effect = float(sums.sum() / counts.sum())
    interval, kl = bootstrap_ratio(sums, counts, seed), bootstrap_ratio(row.nats, row.n_tokens, seed)
    low, high = np.quantile(row.random, [0.025, 0.975])
    return Response(
        target=target,
        direction=name,
        dose=dose,
        at_equal_cost=at_equal_cost,
        effect=effect,
        low=interval.low,
        high=interval.high,
        kl_nats=float(row.nats.sum() / row.n_tokens.sum()),
        kl_low=kl.low,
        kl_high=kl.high,
        random_mean=float(row.random.mean()),
        random_low=float(low),
        random_high=float(high),
        random_kl_nats=random_kl,
        p=rank_among(effect, row.random),
        n_documents=len(sums),
    )
