"""Which token ids stand for no text, and which of them begin what a model reads.

A tokenizer may put tokens before a text by itself (BOS, or nothing). A harvest can follow it, insist on BOS, move it to
the start of every window, or leave it out.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from sae.core.errors import InputError

Bos = Literal["tokenizer", "document", "window", "none"]
"""What begins a document: what the tokenizer puts before a text; BOS in any case; BOS once a window; nothing."""


class Prefix(NamedTuple):
    """Token ids that stand before text."""

    document: tuple[int, ...] = ()
    """Before the first token of every document."""
    window: tuple[int, ...] = ()
    """Before the first token of every window."""


def prefix_ids(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts before a text: BOS, or none."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    n_prefix = encoded["special_tokens_mask"].index(0)
    return list(encoded["input_ids"][:n_prefix])


def prefix_of(tokenizer: Any, bos: Bos) -> Prefix:
    """What stands before documents and windows.

    Raises:
        InputError: BOS is asked for and the tokenizer has none.
    """
    own = tuple(prefix_ids(tokenizer))
    if bos == "none":
        return Prefix()
    if bos == "tokenizer":
        return Prefix(document=own)
    if not own and tokenizer.bos_token_id is None:
        raise InputError(f"bos {bos!r}: this tokenizer has no BOS token; harvest.bos may be tokenizer or none")
    tokens = own or (int(tokenizer.bos_token_id),)
    return Prefix(document=tokens) if bos == "document" else Prefix(window=tokens)


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of tokens that stand for no text.

    An unknown-word token that is nothing else stands for text, so it does not count.
    """
    control = [getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "pad", "sep", "cls", "mask")]
    unknown = {tokenizer.unk_token_id} - set(control)
    return frozenset(set(tokenizer.all_special_ids) - unknown)


def special_mask(tokenizer: Any, ids: Int[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    """True where a token stands for no text."""
    return np.isin(ids, sorted(special_ids(tokenizer)))
