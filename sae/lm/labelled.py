"""Labelled texts in tokens: where the variable is expressed, where its consequence is predicted, and what each label
would make follow.

Offsets are characters of the text. Tokens may or may not count the space before a word as their own, so
- a span's tokens are those that share at least one character with it;
- the prediction of a consequence stands at the last token that begins before the consequence's first character;
- a label's token is the one that follows there when the text before is tokenised with the label's consequence. It is
  found by tokenising both together, since a word alone is not tokenised as it is after a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from sae.core.errors import InputError
from sae.core.records import Consequence, LabelledText
from sae.lm.load import LoadedModel
from sae.lm.packing import is_encoder
from sae.lm.tokens import prefix_ids, suffix_ids

SHOWN = 60


class Encoded(NamedTuple):
    """A text in tokens, those before it (BOS) included; those after it ([SEP]) for an encoder only: a decoder's text
    may go on."""

    ids: Int32[np.ndarray, "token"]
    offsets: Int32[np.ndarray, "token 2"]
    """Characters [start, end) of each token; [0, 0) for special tokens."""


def encode(loaded: LoadedModel, text: str) -> Encoded:
    """Tokens of a text with their characters."""
    ids, offsets = encoded = _unended(loaded, text)
    if not is_encoder(loaded):
        return encoded
    suffix = np.array(suffix_ids(loaded.tokenizer), dtype=np.int32)
    return Encoded(np.append(ids, suffix), np.append(offsets, np.zeros((len(suffix), 2), np.int32), axis=0))


def _unended(loaded: LoadedModel, text: str) -> Encoded:
    prefix = prefix_ids(loaded.tokenizer)
    encoded = loaded.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = [(0, 0)] * len(prefix) + list(encoded["offset_mapping"])
    ids = prefix + list(encoded["input_ids"])
    return Encoded(np.array(ids, dtype=np.int32), np.array(offsets, dtype=np.int32).reshape(-1, 2))


def token_at(offsets: Int[np.ndarray, "token 2"], character: int) -> int:
    """Number of the token that holds a character; for a space that no token holds, of the next token.

    Raises:
        InputError: the character lies behind the last token.
    """
    after = np.flatnonzero(offsets[:, 1] > character)
    if not len(after):
        raise InputError(f"character {character} lies behind the last token, which ends at {int(offsets.max())}")
    return int(after[0])


def span_tokens(offsets: Int[np.ndarray, "token 2"], span: tuple[int, int]) -> tuple[int, int]:
    """Tokens [first, end) that share a character with the characters [start, end) of the span.

    Raises:
        InputError: there are none.
    """
    inside = np.flatnonzero((offsets[:, 0] < span[1]) & (offsets[:, 1] > span[0]))
    if not len(inside):
        raise InputError(f"no token shares a character with the span {list(span)}")
    return int(inside[0]), int(inside[-1]) + 1


@dataclass(frozen=True, eq=False)
class Prediction:
    """Where a consequence is predicted, and the first token of what follows under each label."""

    position: int
    """Token whose next token the consequence begins with."""
    targets: dict[str, int]
    """Token id by label, all different."""


@dataclass(frozen=True, eq=False)
class EncodedLabelled:
    """A labelled text in tokens."""

    source: LabelledText
    ids: Int32[np.ndarray, "token"]
    offsets: Int32[np.ndarray, "token 2"]
    span: tuple[int, int]
    """Tokens [first, end) that express the variable."""
    prediction: Prediction | None
    """None where the label shows no later consequence."""

    @property
    def last(self) -> int:
        """The last token of the span: the first place at which the whole expression has been read."""
        return self.span[1] - 1


def encode_labelled(loaded: LoadedModel, text: LabelledText) -> EncodedLabelled:
    """A labelled text in tokens.

    Raises:
        InputError: a span without tokens; labels whose consequences begin with the same token, or with one that
            reaches back before the consequence. Names the text and the labels.
    """
    encoded = encode(loaded, text.text)
    try:
        span = span_tokens(encoded.offsets, text.span)
    except InputError as error:
        raise InputError(f"{shown(text.text)}: {error}") from None
    prediction = None
    if text.consequence is not None:
        prediction = _prediction(loaded, text.text, _unended(loaded, text.text), text.consequence)
    return EncodedLabelled(text, encoded.ids, encoded.offsets, span, prediction)


def encode_twin(loaded: LoadedModel, text: LabelledText) -> EncodedLabelled:
    """The counterfactual twin of a labelled text, in tokens, without a consequence of its own.

    Raises:
        InputError: the text has no twin, or as `encode_labelled`.
    """
    twin = text.twin
    if twin is None:
        raise InputError(f"{shown(text.text)} has no counterfactual twin")
    return encode_labelled(
        loaded, LabelledText(text=twin.text, variable=text.variable, label=twin.label, span=twin.span, group=text.key)
    )


def _prediction(loaded: LoadedModel, text: str, encoded: Encoded, consequence: Consequence) -> Prediction:
    # Special tokens have offsets [0, 0) and stand before everything, also before a consequence at character 0.
    special = encoded.offsets[:, 1] == 0
    n_before = int(np.sum(special | (encoded.offsets[:, 0] < consequence.position)))
    if n_before == 0:
        raise InputError(f"{shown(text)}: nothing stands before its consequence, so nothing predicts it")
    before = encoded.ids[:n_before]
    targets = {
        label: _first_token(loaded, text[: consequence.position] + follows, before, label)
        for label, follows in consequence.tokens.items()
    }
    _check_different(text, consequence, targets)
    return Prediction(n_before - 1, targets)


def _first_token(loaded: LoadedModel, text: str, before: Int32[np.ndarray, "token"], label: str) -> int:
    ids = _unended(loaded, text).ids
    n_before = len(before)
    if len(ids) <= n_before or not np.array_equal(ids[:n_before], before):
        raise InputError(
            f"{shown(text)}: the consequence of label {label!r} does not begin with a token of its own; "
            "let it begin with the space before its first word"
        )
    return int(ids[n_before])


def _check_different(text: str, consequence: Consequence, targets: dict[str, int]) -> None:
    by_token: dict[int, str] = {}
    for label, token in targets.items():
        if token in by_token:
            other = by_token[token]
            raise InputError(
                f"{shown(text)}: labels {other!r} and {label!r} begin with the same token "
                f"({consequence.tokens[other]!r} and {consequence.tokens[label]!r})"
            )
        by_token[token] = label


def shown(text: str) -> str:
    """A text in quotes, shortened for a message."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


def unusable(loaded: LoadedModel, texts: Sequence[LabelledText]) -> dict[int, str]:
    """Numbers of the labelled texts that this tokenizer cannot use, and why."""
    problems = {}
    for number, text in enumerate(texts):
        try:
            encode_labelled(loaded, text)
        except InputError as error:
            problems[number] = str(error)
    return problems
