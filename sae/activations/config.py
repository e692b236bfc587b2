"""What a harvest is: how texts are packed, how rows are stored, which rows are left out."""

from typing import Annotated, Literal

from pydantic import Field

from sae.core.config import EXECUTION, Strict
from sae.core.splits import Fractions

Encoding = Literal["float32", "float16", "bfloat16"]
"""How rows are stored."""


class Exclude(Strict):
    """Which rows are left out of the shards; the token stream keeps them all."""

    special: bool = True
    """Leave out tokens that stand for no text (BOS, EOS, padding …)."""
    first: Annotated[int, Field(ge=0)] = 0
    """Leave out this many positions at the start of every document, BOS included."""


class HarvestConfig(Strict):
    """Text to activations on disk."""

    window: Annotated[int, Field(ge=2)] = 128
    """Tokens in one packed window; longer texts are cut into documents of at most this many."""
    dtype: Encoding = "float16"
    """How rows are stored: float32, float16 or bfloat16."""
    exclude: Exclude = Exclude()
    """Rows to leave out."""
    fractions: Fractions = Fractions()
    """Share of the texts in each split."""
    shard_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """Most rows in one shard."""
    batch: Annotated[int, EXECUTION, Field(ge=1)] = 32
    """Windows per forward pass."""
