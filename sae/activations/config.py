"""What a harvest is: how texts are packed, how rows are stored, which rows are left out."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sae.core.config import EXECUTION, Strict
from sae.core.errors import InputError
from sae.core.splits import Fractions
from sae.lm.tokens import Bos

Encoding = Literal["float32", "float16", "bfloat16", "int8"]
"""How rows are stored."""
Compression = Literal["none", "lz4", "zstd"]
"""How chunks are compressed, without loss: bits of equal weight together, then LZ4 or Zstandard (extra `compress`)."""


class Exclude(Strict):
    """Which rows are left out of the shards; the token stream keeps them all."""

    special: bool = True
    """Leave out tokens that stand for no text (BOS, EOS, padding …)."""
    first: Annotated[int, Field(ge=0)] = 0
    """Leave out this many of the first positions that the model reads in every piece of a document, BOS included."""
    high_norm: Annotated[float, Field(ge=0)] = 0.0
    """Leave out rows whose norm at any harvested site is more than this many times the site's median, which is taken
    over the first 16,384 tokens of the text; 0: none, else more than 1."""

    @field_validator("high_norm")
    @classmethod
    def _above_the_median(cls, high_norm: float) -> float:
        if 0 < high_norm <= 1:
            raise ValueError(f"{high_norm} would leave out half of the rows or more; 0 (none) or more than 1")
        return high_norm


class HarvestConfig(Strict):
    """Text to activations on disk."""

    window: Annotated[int, Field(ge=2)] = 128
    """Tokens in one packed window; longer documents are cut into pieces of at most this many."""
    bos: Bos = "tokenizer"
    """What begins a document: tokenizer (what it puts before a text, once a document), document (BOS in any case),
    window (BOS once a window, so that only its first piece begins with it), none. Every window of an encoder stands
    between what its tokenizer puts around a text, unless this is none."""
    isolate: bool = True
    """Pieces in one window never see one another; false lets a piece see those before it."""
    dtype: Encoding = "float16"
    """How rows are stored: float32, float16, bfloat16, or int8 with a scale per row (about half of float16)."""
    compression: Compression = "none"
    """none, lz4 or zstd: lossless, per chunk; smaller files that are slower to read."""
    exclude: Exclude = Exclude()
    """Rows to leave out."""
    on_nonfinite: Literal["stop", "drop"] = "stop"
    """A row with NaN or an infinity at any harvested site: stop and name it, or drop it and count it."""
    fractions: Fractions = Fractions()
    """Share of the texts in each split."""
    shard_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """Most rows in one shard."""
    batch: Annotated[int, EXECUTION, Field(ge=1)] = 32
    """Windows per forward pass."""


def check_parts(config: HarvestConfig, n_parts: int) -> None:
    """Refuses what would come out otherwise when a harvest is made in several parts, which pack apart.

    Raises:
        InputError: what a piece sees depends on the window into which it is packed.
    """
    if n_parts == 1:
        return
    if config.bos == "window":
        raise InputError(
            f"harvest.bos: window cannot be harvested in {n_parts} parts (--part): which piece begins with BOS depends "
            f"on how they are packed, and parts pack apart; use tokenizer, document or none"
        )
    if not config.isolate:
        raise InputError(
            f"harvest.isolate: false cannot be harvested in {n_parts} parts (--part): what a piece sees depends on how "
            f"they are packed, and parts pack apart; use true"
        )
