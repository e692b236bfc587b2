"""Labelled texts as prompts: tokens up to the place where the consequence is predicted, and what each label predicts.

What follows the prediction cannot change it in a causal model, so it is cut off; a text without a consequence is cut
after its span. Prompts are padded on the left: the prediction stands at the last position of every row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from sae.core.errors import InputError
from sae.core.records import LabelledText
from sae.lm.labelled import EncodedLabelled, encode_labelled, encode_twin
from sae.lm.load import LoadedModel


@dataclass(frozen=True, eq=False)
class Prompt:
    """One text in tokens."""

    ids: Int[np.ndarray, "token"]
    """Up to and including the place of the prediction, or the span where there is none."""
    span_last: int
    """Index of the last token of the span."""
    label_tokens: tuple[int, ...] = ()
    """First token that follows under each label, in the order of the labels, −1 where a label has none; () where
    the text has no consequence."""

    @property
    def region(self) -> slice:
        """From the last token of the span to the prediction: where an edit of the variable acts."""
        return slice(self.span_last, len(self.ids))


class Prompts(NamedTuple):
    """The usable texts of a variable."""

    texts: list[LabelledText]
    prompts: list[Prompt]
    problems: list[str]
    """Why each of the others was left out."""


def prompts_of(loaded: LoadedModel, texts: Sequence[LabelledText], labels: Sequence[str]) -> Prompts:
    """Prompts of the texts of one variable; those that the tokenizer or the model's length cannot take are left out.

    Args:
        loaded: its tokenizer is used.
        texts: at least one.
        labels: all labels of the variable, in the order in which each prompt's `label_tokens` are wanted.

    Raises:
        InputError: none is usable; gives the first reason.
    """
    result = Prompts([], [], [])
    for text in texts:
        try:
            result.prompts.append(_prompt(loaded, encode_labelled(loaded, text), labels))
            result.texts.append(text)
        except InputError as error:
            result.problems.append(str(error))
    if not result.texts:
        raise InputError(f"no text of variable {texts[0].variable!r} is usable: {result.problems[0]}")
    return result


def twin_prompt(loaded: LoadedModel, text: LabelledText, prompt: Prompt) -> Prompt:
    """The twin's tokens, cut to what can be aligned: its span's last token and as many after it as the text has.

    Raises:
        InputError: the twin cannot be used.
    """
    twin = encode_twin(loaded, text)
    end = min(len(twin.ids), twin.last + len(prompt.ids) - prompt.span_last)
    return _checked(loaded, Prompt(twin.ids[:end], twin.last))


def _prompt(loaded: LoadedModel, encoded: EncodedLabelled, labels: Sequence[str]) -> Prompt:
    prediction = encoded.prediction
    if prediction is None:
        return _checked(loaded, Prompt(encoded.ids[: encoded.last + 1], encoded.last))
    if prediction.position < encoded.last:
        raise InputError("the consequence begins within the span's tokens")
    tokens = tuple(prediction.targets.get(label, -1) for label in labels)
    return _checked(loaded, Prompt(encoded.ids[: prediction.position + 1], encoded.last, tokens))


def _checked(loaded: LoadedModel, prompt: Prompt) -> Prompt:
    if len(prompt.ids) > loaded.n_positions:
        raise InputError(f"{len(prompt.ids)} tokens; the model was made for {loaded.n_positions}")
    return prompt


class Padded(NamedTuple):
    """Prompts in one batch, padded on the left."""

    input_ids: Int64[Tensor, "batch position"]
    attention_mask: Int64[Tensor, "batch position"]
    position_ids: Int64[Tensor, "batch position"]


def padded(several: Sequence[Int[np.ndarray, "_n"]], device: torch.device) -> Padded:
    """Token sequences with zeros before them, the mask that hides those, and positions that do not count them."""
    width = max(len(ids) for ids in several)
    ids = np.zeros((len(several), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, one in enumerate(several):
        ids[row, width - len(one) :] = one
        mask[row, width - len(one) :] = 1
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    return Padded(*(torch.as_tensor(a, device=device) for a in (ids, mask, positions)))


def by_length(lengths: Sequence[int], n_tokens: int) -> list[list[int]]:
    """Indices in batches of like length, each of at most `n_tokens` positions with its padding (or one row)."""
    batches: list[list[int]] = []
    for index in np.argsort(lengths, kind="stable").tolist():
        if batches and (len(batches[-1]) + 1) * lengths[index] <= n_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
