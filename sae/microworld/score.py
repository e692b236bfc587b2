"""How well a model speaks the language, against the truth that the generator knows.

excess_nats: the mean over words of −log q(word | prefix) + log p(word | prefix), q the model's, p the generator's: the
cross-entropy above the true entropy. The rates: at the word that follows from a variable, how often the right word's
logit is above those that every other label would put there.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sae.microworld.generate import Document, Marked, Sentence, documents
from sae.microworld.lexicon import LABELLED
from sae.microworld.model import BOS, PAD, vocabulary


class Batch(NamedTuple):
    """Documents as tokens, <bos> first, padded on the right."""

    tokens: Int[Tensor, "document position"]
    documents: tuple[Document, ...]


def batches(texts: Sequence[Document], n_documents: int = 128) -> Iterator[Batch]:
    """All documents, those of similar length together."""
    ordered = sorted(texts, key=lambda document: len(document.words))
    for begin in range(0, len(ordered), n_documents):
        together = tuple(ordered[begin : begin + n_documents])
        yield Batch(tokens_of(together), together)


def tokens_of(texts: Sequence[Document]) -> Int[Tensor, "document position"]:
    """Tokens of the documents, <bos> first, padded on the right to the longest."""
    ids, width = vocabulary(), 1 + max(len(document.words) for document in texts)
    rows = [[ids[BOS], *(ids[word] for word in document.words)] for document in texts]
    return torch.tensor([row + [ids[PAD]] * (width - len(row)) for row in rows])


def score(model: nn.Module, n_texts: int = 2000, seed: int = 0) -> dict[str, float]:
    """Excess nats per word, and the rates of right consequences, on held-out documents.

    Args:
        model: a causal language model over `vocabulary()`.
        n_texts: documents, none of which training has seen: their stream is another.
        seed: of the held-out stream.

    Returns:
        `excess_nats`, `nats` (the true entropy), and a rate each for `agreement`, `agreement_attractor` (a noun of the
        other number between subject and verb), `sentiment` and `capital`, with `n_texts` and `n_words`.
    """
    texts = _held_out(n_texts, seed)
    right: dict[str, list[bool]] = {"agreement": [], "agreement_attractor": [], "sentiment": [], "capital": []}
    excess, true_nats, n_words = 0.0, 0.0, 0
    for tokens, together in batches(texts):
        logits = _logits(model, tokens)
        for row, document in enumerate(together):
            sentences = document.sentences
            nats = torch.tensor([nats for sentence in sentences for nats in sentence.nats])
            targets = tokens[row, 1 : 1 + len(nats), None]
            model_nats = -logits[row, : len(nats)].log_softmax(-1).gather(-1, targets)[:, 0]
            excess += float((model_nats - nats).sum())
            true_nats += float(nats.sum())
            n_words += len(nats)
            _judge(right, logits[row], sentences)
    rates = {name: sum(hits) / len(hits) for name, hits in right.items() if hits}
    return {
        "excess_nats": excess / n_words,
        "nats": true_nats / n_words,
        **rates,
        "n_texts": len(texts),
        "n_words": n_words,
    }


def _held_out(n_texts: int, seed: int) -> list[Document]:
    stream = documents(seed, n_texts * 1000, name="held-out")
    return [document for document, _ in zip(stream, range(n_texts), strict=False)]


def _logits(model: nn.Module, tokens: Int[Tensor, "document position"]) -> Float[Tensor, "document position vocab"]:
    with torch.inference_mode():
        return model(input_ids=tokens, use_cache=False).logits.float()


def _judge(
    right: dict[str, list[bool]], logits: Float[Tensor, "position vocab"], sentences: Sequence[Sentence]
) -> None:
    """Adds to the rates every consequence in one document; the logits at i speak of word i."""
    begin = 0
    for sentence in sentences:
        for place in sentence.marks:
            if not place.mark.decides:
                right[_rate(sentence, place)].append(_beats_others(logits[begin + place.position], place))
        begin += len(sentence.words)


def _rate(sentence: Sentence, place: Marked) -> str:
    if place.mark.variable != "number":
        return place.mark.variable
    attractor = sentence.decided("attractor")
    opposed = attractor is not None and attractor.mark.label != place.mark.label
    return "agreement_attractor" if opposed else "agreement"


def _beats_others(logits: Float[Tensor, "vocab"], place: Marked) -> bool:
    ids, mark = vocabulary(), place.mark
    words = {label: ids[words[mark.index]] for label, words in LABELLED[mark.wordclass].items()}
    right = logits[words.pop(mark.label)]
    return bool(right > logits[list(words.values())].max())
