"""The labelled texts of one variable as arrays: labels, splits, documents, and the yes-or-no tasks that they pose.

A variable with two labels poses one task: tell the alphabetically later label (the *target*) from the other. A
variable with more labels poses one task per label: this label against all the others. The variable's number is the
mean over its tasks. The document (a text's group) is what is split and resampled, never the single text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from sae.core.records import LabelledText
from sae.core.splits import LABELLED, SPLITS, Fractions, Split, split_of


@dataclass(frozen=True)
class Sample:
    """One variable's texts in their given order."""

    variable: str
    labels: tuple[str, ...]
    """All labels, sorted."""
    targets: tuple[str, ...]
    """The label that each task asks for; empty where the texts are too few."""
    label: Int[np.ndarray, "text"]
    """Index into `labels`."""
    split: Int[np.ndarray, "text"]
    """Index into SPLITS."""
    document: Int[np.ndarray, "text"]
    """Index of the document that the text belongs to."""

    def rows(self, split: Split) -> Int[np.ndarray, "row"]:
        """Indices of the texts of a split."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def truth(self, target: str) -> Bool[np.ndarray, "text"]:
        """Whether each text has the label that the task asks for."""
        return self.label == self.labels.index(target)

    @property
    def binary(self) -> bool:
        """Whether the variable has two labels, so that what is not the target is the other label."""
        return len(self.labels) == 2

    def other(self, target: str) -> str:
        """What a text has that has not the target: the other label, or "other"."""
        return next(label for label in self.labels if label != target) if self.binary else "other"


def labels_of(texts: Sequence[LabelledText]) -> tuple[str, ...]:
    """The labels of a variable's texts, sorted."""
    return tuple(sorted({text.label for text in texts}))


def sample_of(
    texts: Sequence[LabelledText], labels: tuple[str, ...], n_least: int = 2, fractions: Fractions = LABELLED
) -> Sample:
    """Sorts the texts of one variable into splits, documents and tasks.

    Args:
        texts: of that variable, at least one.
        labels: all labels of the variable, sorted; some may have no text here.
        n_least: a task needs as many documents with and without its target in each split.
        fractions: shares of the splits.
    """
    label = np.array([labels.index(text.label) for text in texts])
    split = np.array([SPLITS.index(split_of(text.key, fractions)) for text in texts])
    asked = labels[-1:] if len(labels) == 2 else labels if len(labels) > 2 else ()
    document = documents_of(texts)
    targets = tuple(t for t in asked if _n_documents(label == labels.index(t), split, document) >= n_least)
    return Sample(texts[0].variable, labels, targets, label, split, document)


def documents_of(texts: Sequence[LabelledText]) -> Int[np.ndarray, "text"]:
    """The number of each text's document."""
    numbers = {key: i for i, key in enumerate(dict.fromkeys(text.key for text in texts))}
    return np.array([numbers[text.key] for text in texts], dtype=np.int64)


def _n_documents(
    truth: Bool[np.ndarray, "text"], split: Int[np.ndarray, "text"], document: Int[np.ndarray, "text"]
) -> int:
    """The fewest documents on either side of a task in any split."""
    sides = (truth, ~truth)
    return min(len(np.unique(document[side & (split == s)])) for side in sides for s in range(len(SPLITS)))
