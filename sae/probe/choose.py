"""All probes of one variable: fitted on train, chosen on validation, answering for test.

1. Every method is fitted at every position, for every task.
2. A method's position is the one with the higher mean validation accuracy over the tasks (the first on a tie).
3. Only `answers` looks at test texts, and nothing is chosen after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never, get_args

import numpy as np
from jaxtyping import Float

from sae.core.random import numpy_generator
from sae.probe.control import matched_latents, shuffled_labels
from sae.probe.latent import fit_best_latent, fit_sparse, ranked_latents
from sae.probe.logistic import fit_logistic, quality
from sae.probe.means import fit_means
from sae.probe.rule import Fold, LinearRule
from sae.probe.sample import Sample
from sae.probe.score import Answers

Method = Literal["logistic", "difference_of_means", "best_latent", "sparse_1", "sparse_5"]
METHODS: tuple[Method, ...] = get_args(Method)
RESIDUAL_METHODS: tuple[Method, ...] = ("logistic", "difference_of_means")
LATENT_METHODS: tuple[Method, ...] = ("best_latent", "sparse_1", "sparse_5")
N_SHUFFLED_TASKS = 8

Features = Mapping[str, Float[np.ndarray, "text _column"]]
"""For each position that the variable has, a row per text: residual stream or code."""


@dataclass(frozen=True)
class Chosen:
    """One method, fitted for every task of a variable at the position that validation chose."""

    method: Method
    position: str
    rules: Mapping[str, LinearRule]
    """By target."""
    validation: Mapping[str, tuple[float, float]]
    """Balanced accuracy and AUC on validation, by target."""


def choose(sample: Sample, features: Features, method: Method) -> Chosen:
    """Fits one method everywhere and keeps the position that does best on validation."""
    fitter = fitter_of(method, sample.binary)
    candidates = [_fitted(sample, position, x, method, fitter) for position, x in features.items()]
    return max(candidates, key=lambda c: tuple(np.mean(list(c.validation.values()), axis=0)))


def fitter_of(method: Method, binary: bool) -> Callable[[Fold], LinearRule]:
    """How a method is fitted; with many labels a latent stands for one of them only by firing."""
    match method:
        case "logistic":
            return fit_logistic
        case "difference_of_means":
            return fit_means
        case "best_latent":
            return lambda fold: fit_best_latent(fold, either_sign=binary)
        case "sparse_1":
            return lambda fold: fit_sparse(fold, 1)
        case "sparse_5":
            return lambda fold: fit_sparse(fold, 5)
        case _:
            assert_never(method)


def _fitted(
    sample: Sample,
    position: str,
    x: Float[np.ndarray, "text column"],
    method: Method,
    fitter: Callable[[Fold], LinearRule],
) -> Chosen:
    folds = {target: fold_of(sample, target, x) for target in sample.targets}
    rules = {target: fitter(fold) for target, fold in folds.items()}
    return Chosen(method, position, rules, {t: quality(rule, folds[t]) for t, rule in rules.items()})


def fold_of(sample: Sample, target: str, x: Float[np.ndarray, "text column"]) -> Fold:
    """Train and validation rows of one task."""
    train, validation, truth = sample.rows("train"), sample.rows("validation"), sample.truth(target)
    return Fold(x[train], truth[train], x[validation], truth[validation])


def answers(sample: Sample, rules: Mapping[str, LinearRule], x: Float[np.ndarray, "text column"]) -> Answers:
    """What the rules say of the test texts, a row per target."""
    test = sample.rows("test")
    truth = np.stack([sample.truth(target)[test] for target in rules])
    score = np.stack([rule.score(x[test]) for rule in rules.values()])
    return Answers(truth, score, sample.document[test])


def chosen_answers(sample: Sample, chosen: Chosen, features: Features) -> Answers:
    """What the chosen probes say of the test texts."""
    return answers(sample, chosen.rules, features[chosen.position])


def shuffled_answers(sample: Sample, chosen: Chosen, features: Features, seed: int, n: int) -> list[Answers]:
    """The same method at the same position, n times, on shuffled train and validation labels.

    Of many tasks eight stand for all: at chance they do not differ.
    """
    fitter, x = fitter_of(chosen.method, sample.binary), features[chosen.position]
    random = numpy_generator(seed, "shuffled labels", sample.variable, chosen.method)
    train, validation = (sample.document[sample.rows(split)] for split in ("train", "validation"))

    def draw(target: str) -> LinearRule:
        fold = fold_of(sample, target, x)
        y_train = shuffled_labels(fold.y_train, train, random)
        y_validation = shuffled_labels(fold.y_validation, validation, random)
        return fitter(fold._replace(y_train=y_train, y_validation=y_validation))

    some = random.permutation(sample.targets)[:N_SHUFFLED_TASKS].tolist()
    return [answers(sample, {target: draw(target) for target in some}, x) for _ in range(n)]


def matched_answers(sample: Sample, chosen: Chosen, features: Features, seed: int, n: int) -> list[Answers]:
    """The same method on n draws of other latents that fire as often at that position; none if there are none."""
    fitter, code = fitter_of(chosen.method, sample.binary), features[chosen.position]
    density = (code[sample.rows("train")] > 0).mean(0)
    random = numpy_generator(seed, "matched latents", sample.variable, chosen.method)
    draws = {}
    for target, rule in chosen.rules.items():
        latents = rule.columns.tolist()
        draws[target] = matched_latents(density, latents, latents, n, random)
    n_drawn = min(len(columns) for columns in draws.values())
    folds = {target: fold_of(sample, target, code) for target in sample.targets}
    return [
        answers(sample, {t: _on_columns(fold, draws[t][k], fitter) for t, fold in folds.items()}, code)
        for k in range(n_drawn)
    ]


def _on_columns(fold: Fold, columns: np.ndarray, fitter: Callable[[Fold], LinearRule]) -> LinearRule:
    inner = fitter(fold._replace(x_train=fold.x_train[:, columns], x_validation=fold.x_validation[:, columns]))
    return LinearRule(columns[inner.columns], inner.weight, inner.bias)


def top_latents(sample: Sample, chosen: Chosen, features: Features, target: str, n: int = 5) -> tuple[int, ...]:
    """The chosen latent, then those that differ most on train at its position."""
    fold = fold_of(sample, target, features[chosen.position])
    best = int(chosen.rules[target].columns[0])
    others = (int(j) for j in ranked_latents(fold, either_sign=sample.binary)[: n + 1])
    return tuple(dict.fromkeys((best, *others)))[:n]
