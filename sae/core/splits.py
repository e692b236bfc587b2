"""Train, validation or test: decided once per document by a hash of its group or text.

The same text always falls into the same split, in every corpus, part and run, so nothing that was trained on
can be reported on.
"""

import hashlib
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from sae.core.config import Strict
from sae.core.errors import InputError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Share = Annotated[float, Field(gt=0, lt=1)]


class Fractions(Strict):
    """Share of the documents in each split; the three sum to one."""

    train: Share = 0.90
    """Share that dictionaries and probes are fitted on."""
    validation: Share = 0.05
    """Share on which anything is chosen."""
    test: Share = 0.05
    """Share from which every claim comes."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Fractions":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise InputError(f"split fractions sum to {total:g}; they must sum to 1")
        return self


LABELLED = Fractions(train=0.60, validation=0.20, test=0.20)
"""Fractions for labelled texts, which are few."""


def split_of(key: str, fractions: Fractions) -> Split:
    """The split of a document whose group (or text) is `key`: a uniform hash against the cumulated fractions."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    uniform = int.from_bytes(digest, "big") / 2**64
    if uniform < fractions.train:
        return "train"
    return "validation" if uniform < fractions.train + fractions.validation else "test"
