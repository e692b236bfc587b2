"""What the model itself knows of a variable, beside the same model with random weights.

1. *says*: at the place of the consequence, is the right label's word more likely than every other label's?
2. *carries*: does a logistic probe tell the label right before the consequence, where it is needed?
3. *reads*: does it tell the label at the word that expresses it? There the words alone give most of it away.

The control of each is the same measurement on the untrained model, and p is the probability of so large a difference
between the two if it were as likely either way in every document (sign flips of the paired differences).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sae.core.records import Control, Finding, Interval, LabelledText, Subject
from sae.core.splits import LABELLED, split_of
from sae.core.uncertainty import bootstrap_mean, sign_flip_p
from sae.lm.load import LoadedModel
from sae.probe.choose import Features, answers, fold_of
from sae.probe.consequence import label_logits, read_site
from sae.probe.features import residual_features
from sae.probe.logistic import fit_logistic
from sae.probe.sample import Sample
from sae.probe.score import Answers, accuracy_interval, by_document, mean_accuracy
from sae.probe.variable import Encoded, HeldOut, held_out_texts

Question = Literal["says", "carries", "reads"]
KIND = "knowledge"
UNTRAINED_MODEL = "the same model with random weights"
_PLACES: dict[str, Question] = {"consequence": "carries", "span": "reads"}


class Said(NamedTuple):
    """Whether each held-out text's right consequence is the likeliest."""

    document: Int[np.ndarray, "text"]
    right: Bool[np.ndarray, "text"]


@dataclass(frozen=True)
class Knowledge:
    """What one model shows of a variable on test texts."""

    says: Said | None
    """None where the texts have no consequence."""
    probes: dict[Question, Answers]


def knowledge_of(
    loaded: LoadedModel, site: str, texts: Sequence[LabelledText], one: Encoded, n_texts: int, seed: int
) -> Knowledge:
    """Measures one model.

    Args:
        loaded: the model, trained or not.
        site: where probes read.
        texts: all labelled texts of the variable.
        one: those that probes use, in tokens.
        n_texts: texts on which consequences are read, at most.
        seed: of the choice of texts.
    """
    features = residual_features(one.prompts, read_site(loaded, site, one.prompts))
    probes: dict[Question, Answers] = {}
    for position in features:
        probes[_PLACES[position]] = _probed(one.sample, features, position)
    has_any = any(text.consequence is not None and split_of(text.key, LABELLED) == "test" for text in texts)
    return Knowledge(_said(loaded, site, held_out_texts(loaded, texts, n_texts, seed)) if has_any else None, probes)


def knowledge_findings(
    trained: Knowledge, untrained: Knowledge, sample: Sample, site: str, seed: int
) -> Iterator[Finding]:
    """A finding for each question, the untrained model beside the trained one."""
    if trained.says is not None and untrained.says is not None:
        yield _says(trained.says, untrained.says, sample.variable, seed)
    for question in ("carries", "reads"):
        if question in trained.probes:
            yield _probe(trained.probes[question], untrained.probes[question], sample.variable, site, question, seed)


def _said(loaded: LoadedModel, site: str, held_out: HeldOut) -> Said:
    return Said(held_out.document, label_logits(loaded, held_out.prompts, site).argmax(1) == held_out.label)


def _probed(sample: Sample, features: Features, position: str) -> Answers:
    x = features[position]
    rules = {target: fit_logistic(fold_of(sample, target, x)) for target in sample.targets}
    return answers(sample, rules, x)


def _says(trained: Said, untrained: Said, variable: str, seed: int) -> Finding:
    share, beside = (_share(each.right, each.document, seed) for each in (trained, untrained))
    return Finding(
        kind=KIND,
        variable=variable,
        subject=Subject(kind="site", site="logits", name="the model's next word"),
        effect=share.mean,
        unit="share of texts",
        direction=f"1 means that of every held-out text the word that its {variable} asks for beats the other labels'",
        interval=share.interval,
        n_documents=share.n_documents,
        control=Control(what=UNTRAINED_MODEL, effect=beside.mean, interval=beside.interval),
        p=_paired_p(trained.right, untrained.right, trained.document, seed),
        settings={"method": "says", "level": "variable"},
    )


def _probe(trained: Answers, untrained: Answers, variable: str, site: str, question: Question, seed: int) -> Finding:
    n_documents = len(np.unique(trained.document))
    where = "before the consequence" if question == "carries" else "at the word that expresses it"
    right, beside = (_balanced_parts(each) for each in (trained, untrained))
    return Finding(
        kind=KIND,
        variable=variable,
        subject=Subject(kind="probe", site=site, name=f"logistic probe on the residual stream {where}"),
        effect=mean_accuracy(trained),
        unit="balanced accuracy",
        direction=f"1 means that of every held-out text it tells its {variable}; 0.5 is guessing",
        interval=_wide_enough(accuracy_interval(trained, seed), n_documents),
        n_documents=n_documents,
        control=Control(
            what=UNTRAINED_MODEL,
            effect=mean_accuracy(untrained),
            interval=_wide_enough(accuracy_interval(untrained, seed), n_documents),
        ),
        p=_paired_p(right, beside, trained.document, seed),
        settings={"method": question, "level": "variable"},
    )


class _Share(NamedTuple):
    """A mean over documents."""

    mean: float
    interval: Interval | None
    n_documents: int


def _balanced_parts(said: Answers) -> Float[np.ndarray, "text"]:
    """What each text adds to the balanced accuracy: its mean over texts is that accuracy."""
    right, truth = (said.score > 0) == said.truth, said.truth
    n = truth.shape[1]
    of_targets, of_others = (kind.sum(1, keepdims=True) for kind in (truth, ~truth))
    return (right * np.where(truth, n / (2 * of_targets), n / (2 * of_others))).mean(0)


def _wide_enough(interval: Interval, n_documents: int) -> Interval:
    """A share that no document spoils has a bootstrap of no width; 3/n allows for what n documents cannot show.

    The rule of three (Hanley and Lippman-Hand 1983).
    """
    if interval.low == interval.high == 1.0:
        return interval.model_copy(update={"low": max(0.0, 1 - 3 / n_documents)})
    return interval


def _share(right: Bool[np.ndarray, "text"], document: Int[np.ndarray, "text"], seed: int) -> _Share:
    hits, n = by_document(right.astype(np.float64), document)
    return _Share(
        float((hits / n).mean()), _wide_enough(bootstrap_mean(hits / n, seed), len(n)) if len(n) > 1 else None, len(n)
    )


def _paired_p(
    one: Float[np.ndarray, "text"] | Bool[np.ndarray, "text"],
    other: Float[np.ndarray, "text"] | Bool[np.ndarray, "text"],
    document: Int[np.ndarray, "text"],
    seed: int,
) -> float:
    differences, n = by_document(one.astype(np.float64) - other.astype(np.float64), document)
    return sign_flip_p(differences / n, seed)
