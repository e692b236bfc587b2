"""Balanced accuracy and AUC of yes-or-no answers, with error bars and p values by document.

Balanced accuracy = (share of the targets told + share of the others told) / 2, so guessing gives 0.5 whatever the
label frequencies. AUC is the probability that a target scores higher than another text, ties counting half. A row of
several tasks is the mean over them, resampled and permuted together.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sae.core.random import numpy_generator
from sae.core.records import Interval
from sae.core.uncertainty import percentile_interval, rank_p, resampling_weights


class Answers(NamedTuple):
    """What probes say of held-out texts; several probes of one task are several rows."""

    truth: Bool[np.ndarray, "task text"]
    """Whether the text has the task's target."""
    score: Float[np.ndarray, "task text"]
    """The probe's score; it says yes above zero."""
    document: Int[np.ndarray, "text"]
    """The document of each text."""

    def task(self, i: int) -> "Answers":
        """One task alone."""
        return Answers(self.truth[i : i + 1], self.score[i : i + 1], self.document)


class Accuracy(NamedTuple):
    """Mean over tasks, with what is needed to believe it."""

    value: float
    """Balanced accuracy: 0.5 is guessing, 1 is perfect."""
    interval: Interval
    """By bootstrap over documents."""
    p: float
    """Probability of an accuracy as far from 0.5 if labels had nothing to do with the texts (permutation)."""
    auc: float
    """Area under the ROC curve, mean over tasks."""
    n_documents: int


def accuracy_of(answers: Answers, seed: int, n_resamples: int = 1000) -> Accuracy:
    """Scores answers against the truth."""
    value = mean_accuracy(answers)
    auc = float(np.mean([area(t, s) for t, s in zip(answers.truth, answers.score, strict=True)]))
    null = permuted_accuracies(answers, seed, n_resamples)
    interval = accuracy_interval(answers, seed, n_resamples)
    return Accuracy(value, interval, rank_p(value - 0.5, null - 0.5), auc, len(np.unique(answers.document)))


def mean_accuracy(answers: Answers) -> float:
    """Balanced accuracy, mean over the tasks."""
    return float(balanced_accuracy(answers.truth, answers.score > 0).mean())


def balanced_accuracy(truth: Bool[np.ndarray, "*n text"], said: Bool[np.ndarray, "*n text"]) -> Float[np.ndarray, "*n"]:
    """Mean of the shares of targets and of others told right, over the last axis; nan where either is absent."""
    with np.errstate(invalid="ignore", divide="ignore"):
        hits = (truth & said).sum(-1) / truth.sum(-1)
        rejections = (~truth & ~said).sum(-1) / (~truth).sum(-1)
    return np.asarray((hits + rejections) / 2)


def accuracy_interval(answers: Answers, seed: int, n_resamples: int = 1000) -> Interval:
    """Bootstrap over documents of the mean balanced accuracy; a task absent from a resample does not count in it."""
    samples, _ = accuracy_samples(answers, seed, n_resamples)
    return percentile_interval(samples)


class Resampled(NamedTuple):
    """A mean balanced accuracy in every resample."""

    samples: Float[np.ndarray, "resample"]
    n_documents: int


def accuracy_samples(answers: Answers, seed: int, n_resamples: int = 1000) -> Resampled:
    """The mean balanced accuracy over resampled documents; the same resamples for all answers on the same texts."""
    documents, index = np.unique(answers.document, return_inverse=True)
    weights = resampling_weights(len(documents), n_resamples, seed)[:, index].astype(float)
    said = answers.score > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        hits = (weights @ (answers.truth & said).T) / (weights @ answers.truth.T)
        rejections = (weights @ (~answers.truth & ~said).T) / (weights @ (~answers.truth).T)
    accuracies = np.ma.masked_invalid((hits + rejections) / 2).mean(1)
    return Resampled(np.asarray(accuracies.filled(np.nan)), len(documents))


def permuted_accuracies(answers: Answers, seed: int, n: int) -> Float[np.ndarray, "n"]:
    """Mean balanced accuracies with the labels permuted between documents, all tasks together."""
    random = numpy_generator(seed, "permutation", answers.document.size)
    orders = np.stack([permutation(answers.document, random) for _ in range(n)])
    said = answers.score > 0
    rows = (
        balanced_accuracy(t[orders], np.broadcast_to(s, orders.shape)) for t, s in zip(answers.truth, said, strict=True)
    )
    return np.mean(list(rows), 0)


def permutation(document: Int[np.ndarray, "text"], random: np.random.Generator) -> Int[np.ndarray, "text"]:
    """Where each text takes its label from: whole documents swap with others of as many texts, then texts within."""
    documents = np.unique(document)
    if len(documents) == len(document):
        return random.permutation(len(document))
    members = [np.flatnonzero(document == d) for d in documents]
    order = np.empty(len(document), dtype=np.int64)
    for size in sorted({len(m) for m in members}):
        of_size = [m for m in members if len(m) == size]
        for receiver, giver in zip(of_size, random.permutation(len(of_size)), strict=True):
            order[receiver] = random.permutation(of_size[giver])
    return order


def area(truth: Bool[np.ndarray, "text"], score: Float[np.ndarray, "text"]) -> float:
    """AUC by the rank-sum statistic (Mann and Whitney 1947)."""
    return float(areas(truth, score[:, None])[0])


def areas(truth: Bool[np.ndarray, "text"], scores: Float[np.ndarray, "text column"]) -> Float[np.ndarray, "column"]:
    """AUC of every column."""
    from scipy.stats import rankdata

    n, m = int(truth.sum()), int((~truth).sum())
    ranks = np.asarray(rankdata(scores, axis=0), dtype=np.float64)
    return (ranks[truth].sum(0) - n * (n + 1) / 2) / (n * m)


def by_document(
    values: Float[np.ndarray, "text"], document: Int[np.ndarray, "text"]
) -> tuple[Float[np.ndarray, "document"], Float[np.ndarray, "document"]]:
    """Sums and counts of the texts' values in each document, for the bootstrap of a mean over texts."""
    _, index = np.unique(document, return_inverse=True)
    return np.bincount(index, values), np.bincount(index).astype(np.float64)
