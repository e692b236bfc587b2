"""How well a model speaks the language, against the truth that the generator knows.

1. excess_nats: the mean over words of −log q(word | prefix) + log p(word | prefix), q the model's, p the generator's:
   the cross-entropy above the true entropy.
2. At each word that follows from a variable: how often the right word's logit is above those that every other label
   would put there. A word that no label changes ("walked", for number) says nothing and is left out.
3. sentiment: texts are cut after the word that judges and the model writes the sentence to its end, at temperature 1;
   how often the parser finds what follows and finds it of the judgement's sentiment.
4. grammatical: the model writes whole texts, of as many sentences as the held-out ones, at temperature 1; how many of
   them have no word that the parser objects to.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sae.core.random import generator
from sae.microworld.generate import Document, Token, documents
from sae.microworld.grammar import variable_of
from sae.microworld.lexicon import TABLES
from sae.microworld.model import BOS, PAD, vocabulary
from sae.microworld.parse import judge

MAX_WORDS = 200
"""No text is longer; a model that never ends a sentence is stopped here."""


class Batch(NamedTuple):
    """Documents as tokens, <bos> first, padded on the right."""

    tokens: Int[Tensor, "document position"]
    documents: tuple[Document, ...]


def batches(texts: Sequence[Document], n_documents: int = 128) -> Iterator[Batch]:
    """All documents, those of similar length together."""
    ordered = sorted(texts, key=lambda document: len(document.tokens))
    for begin in range(0, len(ordered), n_documents):
        together = tuple(ordered[begin : begin + n_documents])
        yield Batch(tokens_of(together), together)


def tokens_of(texts: Sequence[Document]) -> Int[Tensor, "document position"]:
    """Tokens of the documents, <bos> first, padded on the right to the longest."""
    ids, width = vocabulary(), 1 + max(len(document.tokens) for document in texts)
    rows = [[ids[BOS], *(ids[token.word] for token in document.tokens)] for document in texts]
    return torch.tensor([row + [ids[PAD]] * (width - len(row)) for row in rows])


def score(model: nn.Module, n_texts: int = 2000, seed: int = 0) -> dict[str, float]:
    """Excess nats per word, and the rates of right consequences and right texts, on held-out documents.

    Args:
        model: a causal language model over `vocabulary()`.
        n_texts: documents of a stream of their own. Training draws from another; texts of a single short sentence recur
            in both, as they do in any two samples of the language.
        seed: of the held-out stream and of what the model writes.

    Returns:
        `excess_nats`, `nats` (the true entropy), and a rate each for `agreement`, `agreement_attractor` (a noun of the
        other number between subject and verb), `capital`, `pronoun`, `pronoun_distractor` (a name of the other gender
        between), `negation`, `topic`, `tense`, `sentiment` and `grammatical`, with `n_texts` and `n_words`.
    """
    texts = _held_out(n_texts, seed)
    right: dict[str, list[bool]] = defaultdict(list)
    excess, true_nats, n_words = 0.0, 0.0, 0
    for tokens, together in batches(texts):
        logits = _logits(model, tokens)
        for row, document in enumerate(together):
            nats = torch.tensor(document.nats)
            targets = tokens[row, 1 : 1 + len(nats), None]
            model_nats = -logits[row, : len(nats)].log_softmax(-1).gather(-1, targets)[:, 0]
            excess += float((model_nats - nats).sum())
            true_nats += float(nats.sum())
            n_words += len(nats)
            for name, hit in _consequences(document, logits[row]):
                right[name].append(hit)
    right["sentiment"] = _sentiments_kept(model, texts, seed)
    right["grammatical"] = _grammatical(model, texts, seed)
    rates = {name: sum(hits) / len(hits) for name, hits in sorted(right.items()) if hits}
    nats_per_word = {"excess_nats": excess / n_words, "nats": true_nats / n_words}
    return nats_per_word | rates | {"n_texts": len(texts), "n_words": n_words}


def write(
    model: nn.Module, prompt: Int[Tensor, "text position"], n_sentences: Int[Tensor, "text"], seed: int
) -> list[list[str]]:
    """What the model writes after prompts of equal length, at temperature 1, up to so many ends of sentences each."""
    words, ids = list(vocabulary()), vocabulary()
    never = torch.tensor([ids[BOS], ids[PAD]])
    draws = generator(seed, "microworld", "write", str(prompt.shape[1]))
    written: list[list[str]] = [[] for _ in prompt]
    left, past, now = n_sentences.clone(), None, prompt
    with torch.inference_mode():
        while left.any() and now.shape[1] and max(map(len, written)) < MAX_WORDS:
            output = model(input_ids=now, past_key_values=past, use_cache=True)
            past, logits = output.past_key_values, output.logits[:, -1].float()
            logits[:, never] = -torch.inf
            now = torch.multinomial(logits.softmax(-1), 1, generator=draws)
            for row in left.nonzero()[:, 0].tolist():
                written[row].append(words[now[row, 0]])
            left -= ((left > 0) & (now[:, 0] == ids["."])).long()
    return written


def _held_out(n_texts: int, seed: int) -> list[Document]:
    stream = documents(seed, n_texts * 1000, name="held-out")
    return [document for document, _ in zip(stream, range(n_texts), strict=False)]


def _logits(model: nn.Module, tokens: Int[Tensor, "document position"]) -> Float[Tensor, "document position vocab"]:
    with torch.inference_mode():
        return model(input_ids=tokens, use_cache=False).logits.float()


def _consequences(document: Document, logits: Float[Tensor, "position vocab"]) -> Iterator[tuple[str, bool]]:
    """For each word that follows from a variable, the rate that it counts for and whether the model has it right."""
    ids = vocabulary()
    for place, token in enumerate(document.tokens):
        if token.mark is None:
            continue
        for dimension, (instance, source) in enumerate(zip(token.mark.instances, token.sources, strict=True)):
            rivals = _rivals(token, dimension)
            name = _rate(document, place, instance)
            if source != place and rivals and name:
                # The logits at i speak of word i: <bos> stands before the words.
                yield name, bool(logits[place, ids[token.word]] > logits[place, [ids[word] for word in rivals]].max())


def _rivals(token: Token, dimension: int) -> set[str]:
    """The words that the other labels of one dimension would put in the token's place."""
    assert token.mark is not None
    counterparts = TABLES[token.mark.wordclass].by_label(dimension, token.mark.labels)
    return {words[token.mark.index] for words in counterparts.values()} - {token.word}


def _rate(document: Document, place: int, instance: str) -> str:
    match variable_of(instance):
        case "number":
            return "agreement_attractor" if _opposed(document, place, "number", "number.attractor") else "agreement"
        case "gender":
            return "pronoun_distractor" if _opposed(document, place, "gender", "gender.other") else "pronoun"
        case "sentiment":
            return ""
        case other:
            return other


def _opposed(document: Document, place: int, instance: str, rival: str) -> bool:
    """Whether a rival of another label stands between what decided the instance and the place."""
    labels = {
        token.mark.decides: token.mark.labels[0]
        for token in document.tokens[:place]
        if token.sentence == document.tokens[place].sentence and token.mark is not None
    }
    return rival in labels and labels[rival] != labels[instance]


def _grammatical(model: nn.Module, texts: Sequence[Document], seed: int) -> list[bool]:
    n_sentences = torch.tensor([document.tokens[-1].sentence + 1 for document in texts])
    prompt = torch.full((len(texts), 1), vocabulary()[BOS])
    return [judge(words).grammatical for words in write(model, prompt, n_sentences, seed)]


def _sentiments_kept(model: nn.Module, texts: Sequence[Document], seed: int) -> list[bool]:
    """Whether what the model writes after a judgement follows from it."""
    prefixes: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for document in texts:
        for place, token in enumerate(document.tokens):
            if token.mark is not None and variable_of(token.mark.decides or "") == "sentiment":
                prefixes[place + 1].append(document.words[: place + 1])
    kept: list[bool] = []
    ids = vocabulary()
    for together in prefixes.values():
        prompt = torch.tensor([[ids[BOS], *(ids[word] for word in prefix)] for prefix in together])
        continued = write(model, prompt, torch.ones(len(together), dtype=torch.long), seed)
        kept += [_keeps(prefix, words) for prefix, words in zip(together, continued, strict=True)]
    return kept


def _keeps(prefix: tuple[str, ...], words: list[str]) -> bool:
    reading = judge((*prefix, *words))
    follows = any(len(prefix) - 1 in token.sources for token in reading.document.tokens[len(prefix) :])
    return follows and all(fault.variable not in ("sentiment", "negation") for fault in reading.faults)
