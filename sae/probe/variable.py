"""One variable from labelled texts to evidence: which texts are used, where they are read, what is chosen."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sae.core.errors import InputError
from sae.core.random import numpy_generator
from sae.core.records import LabelledText
from sae.core.splits import LABELLED, split_of
from sae.dictionary import Dictionary
from sae.lm.load import LoadedModel
from sae.probe.choose import METHODS, Chosen, Method, choose, top_latents
from sae.probe.claims import Evidence
from sae.probe.consequence import read_site
from sae.probe.features import code_features, residual_features
from sae.probe.prompt import Prompt, prompts_of
from sae.probe.sample import Sample, documents_of, labels_of, sample_of
from sae.probe.selection import TaskSelection, VariableSelection


class Encoded(NamedTuple):
    """The usable texts of a variable, in tokens and as arrays."""

    texts: list[LabelledText]
    prompts: list[Prompt]
    sample: Sample
    n_left_out: int
    """Texts that the tokenizer or the model's length cannot take."""
    reason: str
    """Of the first of them; empty if there are none."""


def by_variable(texts: Sequence[LabelledText]) -> dict[str, list[LabelledText]]:
    """Texts by variable, in the order in which variables first appear."""
    out: dict[str, list[LabelledText]] = {}
    for text in texts:
        out.setdefault(text.variable, []).append(text)
    return out


def encoded(loaded: LoadedModel, texts: Sequence[LabelledText], n_texts: int, seed: int) -> Encoded:
    """At most `n_texts` texts of one variable, whole documents in random order, as prompts and arrays.

    Raises:
        InputError: no text is usable.
    """
    labels = labels_of(texts)
    some = [_with_own_consequence(text) for text in some_documents(texts, n_texts, seed)]
    usable = prompts_of(loaded, some, labels)
    reason = usable.problems[0] if usable.problems else ""
    return Encoded(usable.texts, usable.prompts, sample_of(usable.texts, labels), len(usable.problems), reason)


def _with_own_consequence(text: LabelledText) -> LabelledText:
    """Its label's words alone: probes read where the consequence is predicted, not what other labels would say."""
    if text.consequence is None:
        return text
    own = {text.label: text.consequence.tokens[text.label]}
    return text.model_copy(update={"consequence": text.consequence.model_copy(update={"tokens": own})})


class HeldOut(NamedTuple):
    """Held-out texts with a consequence, on which effects are measured."""

    texts: list[LabelledText]
    prompts: list[Prompt]
    label: Int[np.ndarray, "text"]
    """Index among the labels."""
    document: Int[np.ndarray, "text"]

    def only(self, kept: Sequence[int]) -> "HeldOut":
        """Some of them."""
        texts, prompts = [self.texts[i] for i in kept], [self.prompts[i] for i in kept]
        return HeldOut(texts, prompts, self.label[list(kept)], self.document[list(kept)])


def held_out_texts(loaded: LoadedModel, texts: Sequence[LabelledText], n_texts: int, seed: int) -> HeldOut:
    """At most `n_texts` texts of the test split that have a consequence, whole documents in random order.

    Raises:
        InputError: no text is usable.
    """
    labels = labels_of(texts)
    held_out = [t for t in texts if t.consequence is not None and split_of(t.key, LABELLED) == "test"]
    if not held_out:
        raise InputError(f"no text of variable {texts[0].variable!r} in the test split has a consequence")
    usable = prompts_of(loaded, some_documents(held_out, n_texts, seed), labels)
    label = np.array([labels.index(text.label) for text in usable.texts])
    return HeldOut(usable.texts, usable.prompts, label, documents_of(usable.texts))


def some_documents(texts: Sequence[LabelledText], n: int, seed: int) -> list[LabelledText]:
    """Texts of a random choice of documents, at most n in all."""
    if len(texts) <= n:
        return list(texts)
    documents: dict[str, list[LabelledText]] = {}
    for text in texts:
        documents.setdefault(text.key, []).append(text)
    several = list(documents.values())
    chosen: list[LabelledText] = []
    for i in numpy_generator(seed, "texts", texts[0].variable).permutation(len(several)):
        if len(chosen) + len(several[i]) <= n:
            chosen += several[i]
    return chosen


def evidence_of(
    loaded: LoadedModel, site: str, one: Encoded, dictionaries: Mapping[str, Dictionary], hash: str, seed: int
) -> Evidence:
    """Reads the site at every position of every text and encodes it.

    Args:
        loaded: the model.
        site: where it is read.
        one: the variable's texts.
        dictionaries: `trained` and, where there is one, `untrained`.
        hash: of the trained dictionary.
        seed: of controls and resampling.
    """
    residual = residual_features(one.prompts, read_site(loaded, site, one.prompts))
    codes = {name: code_features(dictionary, residual) for name, dictionary in dictionaries.items()}
    return Evidence(one.sample, site, hash, residual, codes["trained"], codes.get("untrained"), seed)


def choose_all(evidence: Evidence) -> dict[Method, Chosen]:
    """Every method, chosen on validation."""
    return {method: choose(evidence.sample, evidence.of(method), method) for method in METHODS}


def directions(evidence: Evidence, chosen: Mapping[Method, Chosen]) -> dict[str, Float[np.ndarray, "d"]]:
    """Difference of means by target, in units of the site."""
    return {target: rule.weight.astype(np.float32) for target, rule in chosen["difference_of_means"].rules.items()}


def selection_of(evidence: Evidence, chosen: Mapping[Method, Chosen]) -> VariableSelection:
    """What steering and validation need to know."""
    sample = evidence.sample
    tasks = {target: _task(evidence, chosen, target) for target in sample.targets}
    return VariableSelection(labels=sample.labels, has_consequence="consequence" in evidence.residual, tasks=tasks)


def _task(evidence: Evidence, chosen: Mapping[Method, Chosen], target: str) -> TaskSelection:
    best = chosen["best_latent"]
    rule = best.rules[target]
    fires_for_target = rule.weight[0] > 0
    return TaskSelection(
        target=target,
        latent=int(rule.columns[0]),
        sign=1 if fires_for_target else -1,
        label=target if fires_for_target else evidence.sample.other(target),
        threshold=float(-rule.bias * rule.weight[0]),
        position=best.position,
        top_latents=top_latents(evidence.sample, best, evidence.code, target),
        direction_position=chosen["difference_of_means"].position,
        validation={method: one.validation[target][0] for method, one in chosen.items()},
    )
