"""What labels say of a dictionary: what few latents tell of each variable, and which classes are absorbed."""

from typing import NamedTuple

from sae.dashboard.measured import Measured, measured
from sae.dashboard.member import Member
from sae.dashboard.numbers import MISSING, count, short
from sae.evaluation.absorbed_classes import Absorption, ClassAbsorption
from sae.evaluation.probing import ACTIVATIONS, ALL, VariableAccuracies
from sae.evaluation.scores import Score

_READ = (("dictionary", "sparse_1"), ("dictionary", "sparse_5"), ("untrained", "sparse_5"), (ACTIVATIONS, ALL))
"""The columns: 1 latent, 5 latents, 5 of the untrained dictionary, all of the activations."""


class ToldRow(NamedTuple):
    """One variable, and how well each probe tells it."""

    variable: str
    documents: str
    cells: tuple[Measured, ...]


class ClassRow(NamedTuple):
    """One class of the hierarchy."""

    level: str
    name: str
    latent: str
    youden: str
    silent: Measured
    absorbed: Measured


class LabelledView(NamedTuple):
    """Both tables; either may be empty."""

    variables: tuple[ToldRow, ...]
    sentence: str
    """Of the hierarchy; empty where none is known."""
    classes: tuple[ClassRow, ...]


def labelled_of(member: Member) -> LabelledView | None:
    """What labels say of a member's dictionary; None where nothing was asked of them."""
    card = member.scores
    if card is None or not (card.probing or card.absorption):
        return None
    found = card.absorption.get("dictionary")
    return LabelledView(
        variables=tuple(map(_told, card.probing)),
        sentence="" if found is None else _sentence(found, card.absorption.get("untrained")),
        classes=() if found is None else tuple(map(_class, found.classes)),
    )


def _told(one: VariableAccuracies) -> ToldRow:
    cells = (_cell(one.accuracies.get(name, {}).get(method)) for name, method in _READ)
    tasks = f", {count(one.n_tasks)} labels" if one.n_tasks > 1 else ""
    return ToldRow(one.variable, f"{count(one.n_documents)} documents{tasks}", tuple(cells))


def _class(one: ClassAbsorption) -> ClassRow:
    if not one.is_found:
        return ClassRow(one.level, one.name, MISSING, short(one.youden), measured(None), measured(None))
    return ClassRow(one.level, one.name, str(one.latent), short(one.youden), _cell(one.silent), _cell(one.absorbed))


def _sentence(found: Absorption, untrained: Absorption | None) -> str:
    beside = f" ({untrained.n_found} before training)" if untrained is not None else ""
    return (
        f"{found.n_found} of {len(found.classes)} classes have a latent of their own{beside}: one that fires on a "
        "share of their nouns at least 0.5 above that of other nouns, on the validation split. A noun is absorbed "
        "where it is silent and a latent of a narrower class writes the class instead."
    )


def _cell(score: Score | None) -> Measured:
    return measured(None) if score is None else measured(score.value, score.low, score.high)
