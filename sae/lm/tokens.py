"""Which token ids stand for no text, and which of them begin or end what a model reads.

A tokenizer may put tokens before a text by itself (BOS, or nothing). A harvest can follow it, insist on BOS, move it to
the start of every window, or leave it out.

An encoder was trained on texts between tokens of its tokenizer ([CLS] … [SEP]) and sees both from everywhere. So each
of its windows stands between them, a piece in the middle of a document too. What a decoder's tokenizer puts after a
text (EOS) is left out: the text may go on.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from sae.core.errors import InputError

Bos = Literal["tokenizer", "document", "window", "none"]
"""What begins a document: what the tokenizer puts before a text; BOS in any case; BOS once a window; nothing.

For an encoder: what the tokenizer puts around a text, around every window (tokenizer, window); nothing (none)."""


class Prefix(NamedTuple):
    """Token ids that stand before text, and after it."""

    document: tuple[int, ...] = ()
    """Before the first token of every document."""
    window: tuple[int, ...] = ()
    """Before the first token of every window."""
    window_end: tuple[int, ...] = ()
    """After the last token of every window."""

    @property
    def least_window(self) -> int:
        """Tokens in the shortest window that holds a token of text."""
        return 1 + max(len(self.document), len(self.window) + len(self.window_end))


def prefix_ids(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts before a text: BOS, or none."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    n_prefix = encoded["special_tokens_mask"].index(0)
    return list(encoded["input_ids"][:n_prefix])


def suffix_ids(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts after a text: EOS, [SEP], or none."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    n_suffix = encoded["special_tokens_mask"][::-1].index(0)
    return list(encoded["input_ids"][len(encoded["input_ids"]) - n_suffix :])


def prefix_of(tokenizer: Any, bos: Bos, encoder: bool = False) -> Prefix:
    """What stands before documents and around windows.

    Args:
        tokenizer: of Hugging Face.
        bos: what is asked for.
        encoder: the model sees what comes after a token, too.

    Raises:
        InputError: BOS is asked for and the tokenizer has none; BOS once a document, of an encoder.
    """
    if encoder:
        return _around(tokenizer, bos)
    own = tuple(prefix_ids(tokenizer))
    if bos == "none":
        return Prefix()
    if bos == "tokenizer":
        return Prefix(document=own)
    if not own and tokenizer.bos_token_id is None:
        raise InputError(f"bos {bos!r}: this tokenizer has no BOS token; harvest.bos may be tokenizer or none")
    tokens = own or (int(tokenizer.bos_token_id),)
    return Prefix(document=tokens) if bos == "document" else Prefix(window=tokens)


def _around(tokenizer: Any, bos: Bos) -> Prefix:
    if bos == "document":
        raise InputError(
            "bos 'document': an encoder's special tokens stand around every window; "
            "harvest.bos may be tokenizer, window or none"
        )
    if bos == "none":
        return Prefix()
    before, after = tuple(prefix_ids(tokenizer)), tuple(suffix_ids(tokenizer))
    if bos == "window" and not before:
        raise InputError(
            "bos 'window': this tokenizer puts nothing before a text; harvest.bos may be tokenizer or none"
        )
    return Prefix(window=before, window_end=after)


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
