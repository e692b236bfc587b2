"""The scorecard: how faithful the dictionary is, beside the simple things that need no training."""

from collections.abc import Sequence
from typing import NamedTuple

from sae.dashboard.measured import Measured, measured
from sae.dashboard.member import Member
from sae.dashboard.numbers import count, short
from sae.evaluation.scorecard import Scorecard
from sae.evaluation.scores import Score


class Metric(NamedTuple):
    """A number of the scorecard and what it means."""

    key: str
    name: str
    unit: str
    better: str
    meaning: str


METRICS = (
    Metric(
        "fvu",
        "FVU",
        "share",
        "lower",
        "Fraction of the activations' variance that the reconstruction misses: 0 is perfect, 1 only the mean.",
    ),
    Metric(
        "cosine",
        "Cosine",
        "of x and its reconstruction",
        "higher",
        "Mean over tokens, about zero: where the mean activation is large it is near 1 by itself, so read FVU first.",
    ),
    Metric(
        "relative_norm",
        "Relative norm",
        "ratio",
        "",
        "Length of the reconstruction over that of the activation: below 1 it shrinks.",
    ),
    Metric(
        "l0",
        "L0",
        "numbers per token",
        "",
        "How many numbers describe a token. It is a price, not a goal: compare the others at equal L0.",
    ),
    Metric(
        "l0_std",
        "Spread of L0",
        "standard deviation over tokens",
        "",
        "0 where every token has as many; a wide one spends its numbers on some tokens.",
    ),
    Metric(
        "description_bits",
        "Description length",
        "bits per token",
        "lower",
        "What it costs to say which latents fire, and how strongly: L0 and width on one scale. Compare at equal FVU.",
    ),
    Metric(
        "dead_fraction",
        "Dead latents",
        "share",
        "lower",
        "Latents that fire on no token of the test split: capacity that does nothing here.",
    ),
    Metric(
        "dense_fraction",
        "Dense latents",
        "share",
        "lower",
        "Latents that fire on more than a tenth of all tokens, and so seldom mean one thing.",
    ),
    Metric(
        "absorbed_fraction",
        "Absorbed",
        "share of a class's tokens",
        "lower",
        "Where a class of nouns has a latent: tokens on which it is silent and a narrower latent carries the class.",
    ),
    Metric(
        "sparse_1_accuracy",
        "1 latent tells",
        "balanced accuracy",
        "higher",
        "The best latent as a probe of a labelled text's variable, a mean over variables: 0.5 is guessing.",
    ),
    Metric(
        "sparse_5_accuracy",
        "5 latents tell",
        "balanced accuracy",
        "higher",
        "The same with the five latents that differ most.",
    ),
    Metric(
        "delta_ce_nats",
        "ΔCE",
        "nats per token",
        "lower",
        "How much worse the model predicts the next token when it works with the reconstruction.",
    ),
    Metric(
        "ce_loss_recovered",
        "CE recovered, zero",
        "share",
        "higher",
        "ΔCE against zeroing the site: 1 is no harm, 0 as bad as zeroing. It saturates near 1, so read ΔCE first.",
    ),
    Metric(
        "ce_loss_recovered_mean",
        "CE recovered, mean",
        "share",
        "higher",
        "The same against replacing the site by its mean, a harder comparison.",
    ),
    Metric(
        "ce_loss_recovered_resample",
        "CE recovered, resample",
        "share",
        "higher",
        "The same against the activation of another token: realistic, but wrong.",
    ),
    Metric(
        "kl_nats",
        "KL",
        "nats per token",
        "lower",
        "How far the model's whole prediction moves, also where the loss happens to stay the same.",
    ),
)
SWEPT = ("fvu", "l0", "description_bits", "dead_fraction", "delta_ce_nats", "ce_loss_recovered", "kl_nats")
"""The measures in which the dictionaries of a sweep stand side by side."""
CONTENDERS = {
    "dictionary": ("Dictionary", "trained"),
    "untrained": ("Untrained", "the same dictionary before training"),
    "pca": ("PCA", "as many components as the dictionary has active latents"),
    "resample_ablation": ("Resample ablation", "every token replaced by another one's activation"),
    "mean_ablation": ("Mean ablation", "every token replaced by the mean"),
    "zero_ablation": ("Zero ablation", "every token replaced by zero"),
}
_DIFFERENCES = {"fvu": "FVU", "delta_ce_nats": "ΔCE, nats per token"}


class Row(NamedTuple):
    metric: Metric
    cells: tuple[Measured, ...]


class Difference(NamedTuple):
    """The dictionary minus something else, on the same documents."""

    metric: str
    against: str
    value: Measured
    detectable: str
    words: str
    tone: str


class ScoreTable(NamedTuple):
    """One dictionary beside its baselines."""

    member: str
    columns: tuple[tuple[str, str], ...]
    """Name and explanation of each contender."""
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    caption: str
    notes: tuple[str, ...]


class SweepRow(NamedTuple):
    member: str
    hash: str
    cells: tuple[Measured, ...]


def scorecard_of(member: Member) -> ScoreTable | None:
    """The scorecard of a member; None where nothing was evaluated."""
    if member.scores is None:
        return None
    table = member.scores.contenders
    rows = (Row(m, tuple(_cell(scores.get(m.key)) for scores in table.values())) for m in METRICS)
    return ScoreTable(
        member.name,
        tuple(CONTENDERS.get(name, (name, "")) for name in table),
        tuple(row for row in rows if any(cell.known for cell in row.cells)),
        tuple(_differences(member.scores)),
        _caption(member.scores),
        member.scores.notes,
    )


def sweep_rows(members: Sequence[Member]) -> tuple[SweepRow, ...]:
    """The dictionaries of a sweep side by side, in the columns of `SWEPT`."""
    scored = [(m, m.scores.contenders["dictionary"]) for m in members if m.scores is not None]
    return tuple(
        SweepRow(m.name, m.hash, tuple(_cell(scores.get(k.key)) for k in swept_metrics())) for m, scores in scored
    )


def swept_metrics() -> tuple[Metric, ...]:
    """What is shown of every dictionary of a sweep."""
    return tuple(metric for metric in METRICS if metric.key in SWEPT)


def _cell(score: Score | None) -> Measured:
    return measured(None) if score is None else measured(score.value, score.low, score.high)


def _differences(card: Scorecard) -> list[Difference]:
    table = card.differences
    return [
        _difference(key, other, table[other][key]) for key in _DIFFERENCES for other in table if key in table[other]
    ]


def _difference(key: str, other: str, score: Score) -> Difference:
    """Both compared metrics are better when lower, so a negative difference speaks for the dictionary."""
    if score.low is None or score.high is None:
        tone, words = "unknown", "no interval, so nothing can be said"
    elif score.high < 0:
        tone, words = "above", "▲ the dictionary is better"
    elif score.low > 0:
        tone, words = "below", "▼ the dictionary is worse"
    else:
        tone, words = "same", "= not told apart"
    return Difference(
        _DIFFERENCES[key], CONTENDERS.get(other, (other, ""))[0], _cell(score), short(score.detectable), words, tone
    )


def _caption(card: Scorecard) -> str:
    loss = _cell(card.model.get("ce_nats"))
    return (
        f"Test split ({count(card.n_tokens)} tokens of {count(card.n_documents)} documents), which neither training "
        f"nor any choice has seen. In brackets: 95 % intervals by bootstrap over documents. The model's own loss "
        f"there is {loss.value} {loss.interval} nats per token."
    )
