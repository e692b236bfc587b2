"""Text to documents of tokens, documents to packed windows, windows to batches for the model.

1. A text is tokenised without special tokens and cut into pieces that fit a window. Each piece begins with the tokens
   that the tokenizer puts before a text (BOS, or nothing) and counts as a document of its own.
2. Documents of one split are packed whole into windows: each goes into the open window with the least room that still
   holds it; when too many windows are open, the fullest is closed.
3. In a batch each document's position ids start at 0. With neither a mask nor a cache, transformers reads a document's
   bounds from that restart and builds a block-diagonal causal mask (sliding windows included), so documents in one
   window never see one another: the activations of a packed document equal those of the document alone. Padding
   restarts at every token, so no document sees it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int, Int32
from torch import Tensor

from sae.core.errors import InputError
from sae.core.splits import Fractions, Split, split_of
from sae.lm.load import LoadedModel

_TEXTS_PER_CALL = 256
Item = TypeVar("Item")


class Text(NamedTuple):
    """A text and the id that texts of one origin share, which decides the split (None: the text itself does)."""

    text: str
    group: str | None = None


@dataclass(frozen=True, eq=False)
class Document:
    """A piece of a text, in tokens."""

    index: int
    """Number among the documents, from 0."""
    ids: Int32[np.ndarray, "token"]
    """Token ids, those before the text (BOS) included."""
    split: Split
    source: int
    """Number of the text that it is a piece of, from 0."""


def tokenize(
    loaded: LoadedModel,
    texts: Iterable[Text],
    window: int,
    fractions: Fractions,
    max_tokens: int | None = None,
) -> Iterator[Document]:
    """Documents of at most `window` tokens, in the order of the texts; empty texts give none.

    Args:
        loaded: its tokenizer is used.
        texts: what to tokenise.
        window: longest document, in tokens.
        fractions: shares of the splits.
        max_tokens: stop after this many tokens; the last document is cut to fit.

    Raises:
        InputError: a window with no room for text, or longer than the model was made for.
    """
    prefix = prefix_ids(loaded.tokenizer)
    if not len(prefix) < window <= loaded.n_positions:
        raise InputError(
            f"window {window} must lie between {len(prefix) + 1} and the model's {loaded.n_positions} tokens"
        )
    pieces = _pieces(loaded.tokenizer, texts, prefix, window, fractions)
    left = max_tokens
    for index, (source, split, ids) in enumerate(pieces):
        if left is not None and len(ids) > left:
            ids = ids[:left]
        if len(ids) <= len(prefix):
            return
        yield Document(index, ids, split, source)
        if left is not None:
            left -= len(ids)


def _pieces(
    tokenizer: Any, texts: Iterable[Text], prefix: list[int], window: int, fractions: Fractions
) -> Iterator[tuple[int, Split, Int32[np.ndarray, "token"]]]:
    step = window - len(prefix)
    for several in _several(enumerate(texts), _TEXTS_PER_CALL):
        encoded = tokenizer([text.text for _, text in several], add_special_tokens=False, verbose=False)["input_ids"]
        for (source, text), ids in zip(several, encoded, strict=True):
            split = split_of(text.group or text.text, fractions)
            for start in range(0, len(ids), step):
                yield source, split, np.array(prefix + ids[start : start + step], dtype=np.int32)


def prefix_ids(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts before a text: BOS, or none."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    n_prefix = encoded["special_tokens_mask"].index(0)
    return list(encoded["input_ids"][:n_prefix])


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


def pack(lengths: Sequence[int], window: int, n_open: int = 64) -> list[list[int]]:
    """Numbers of the documents in each window: whole documents, best fit among at most `n_open` open windows.

    Deterministic, and linear in the number of documents.

    Raises:
        InputError: a document is empty or longer than the window.
    """
    done: list[list[int]] = []
    members: list[list[int]] = []
    room: list[int] = []
    for number, length in enumerate(lengths):
        if not 0 < length <= window:
            raise InputError(f"document {number} has {length} tokens; a window holds 1 to {window}")
        fits = [place for place, left in enumerate(room) if left >= length]
        if fits:
            place = min(fits, key=room.__getitem__)
        else:
            if len(room) == n_open:
                fullest = min(range(n_open), key=room.__getitem__)
                done.append(members.pop(fullest))
                room.pop(fullest)
            place = len(room)
            members.append([])
            room.append(window)
        members[place].append(number)
        room[place] -= length
        if room[place] == 0:
            done.append(members.pop(place))
            room.pop(place)
    return done + members


@dataclass(frozen=True, eq=False)
class Packed:
    """A batch of windows with whole documents in them."""

    input_ids: Int[Tensor, "batch window"]
    positions: Int[Tensor, "batch window"]
    """Position in the document, which is also the model's position id; 0 on padding."""
    documents: Int[Tensor, "batch window"]
    """`Document.index`; −1 on padding."""

    @property
    def valid(self) -> Bool[Tensor, "batch window"]:
        """False on padding."""
        return self.documents >= 0

    def inputs(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """What to call the model with. No mask and no cache: with either, transformers ignores the restarts."""
        return {
            "input_ids": self.input_ids.to(device),
            "position_ids": self.positions.to(device),
            "use_cache": False,
        }


def batches(documents: Sequence[Document], window: int, batch: int, look_ahead: int = 65536) -> Iterator[Packed]:
    """Packs documents of one split into windows and gives them in batches of `batch` windows.

    Args:
        documents: of one split.
        window: tokens in a window.
        batch: windows in a batch; the last may have fewer.
        look_ahead: how many documents are packed at a time.

    Raises:
        InputError: documents of several splits; a document longer than the window.
    """
    if len(splits := {document.split for document in documents}) > 1:
        raise InputError(
            f"documents of {len(splits)} splits in one call ({', '.join(sorted(splits))}); pack each alone"
        )
    windows = (members for several in _several(documents, look_ahead) for members in _packed(several, window))
    for rows in _several(windows, batch):
        yield _packed_batch(rows, window)


def _several(items: Iterable[Item], n: int) -> Iterator[list[Item]]:
    """Lists of n items, the last shorter."""
    iterator = iter(items)
    while several := list(islice(iterator, n)):
        yield several


def _packed(documents: Sequence[Document], window: int) -> Iterator[list[Document]]:
    for members in pack([len(document.ids) for document in documents], window):
        yield [documents[number] for number in members]


def _packed_batch(rows: Sequence[Sequence[Document]], window: int) -> Packed:
    shape = (len(rows), window)
    ids, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    numbers = np.full(shape, -1, dtype=np.int64)
    for row, members in enumerate(rows):
        start = 0
        for document in members:
            end = start + len(document.ids)
            ids[row, start:end] = document.ids
            positions[row, start:end] = np.arange(end - start)
            numbers[row, start:end] = document.index
            start = end
    return Packed(torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(numbers))


class Padded(NamedTuple):
    """Texts of unequal length in one batch, padded on the right."""

    input_ids: Int[Tensor, "batch position"]
    attention_mask: Int[Tensor, "batch position"]

    def inputs(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """What to call the model with."""
        return {
            "input_ids": self.input_ids.to(device),
            "attention_mask": self.attention_mask.to(device),
            "use_cache": False,
        }


def pad(sequences: Sequence[Int[np.ndarray, "_"]], pad_id: int = 0) -> Padded:
    """Pads token ids on the right to the longest; what stands on the padding is masked and never seen.

    Raises:
        InputError: no sequences, or an empty one.
    """
    if not sequences or min(len(ids) for ids in sequences) == 0:
        raise InputError("a batch needs at least one sequence, each of at least one token")
    longest = max(len(ids) for ids in sequences)
    input_ids = np.full((len(sequences), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for row, ids in enumerate(sequences):
        input_ids[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return Padded(torch.from_numpy(input_ids), torch.from_numpy(mask))
