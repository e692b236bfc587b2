"""Interventions on a text, and its counterfactual twins.

do(variable = label) at the word that decides the variable changes that word and every word that depends on it, to
their counterparts under the new label; all other choices stay. The slots of a frame do not depend on labels, so the
length stays too.
"""

from sae.core.errors import InputError
from sae.microworld.automaton import Mark
from sae.microworld.generate import Document, Token
from sae.microworld.grammar import variable_of
from sae.microworld.labels import deciding_mark, decision, label_at, labels, own_label
from sae.microworld.lexicon import LABELS, TABLES
from sae.microworld.parse import read


def twin(document: Document, variable: str, label: str | None = None) -> Document:
    """The text in which the first expression of a variable has another label, and all else is as it was.

    Args:
        document: a text of the language.
        variable: one that it expresses, or an aspect.
        label: the label's counterpart by default: labels are paired in their order, so a twin's twin is the text.

    Raises:
        InputError: there is no such variable or label, or the text does not express the variable.
    """
    place = decision(document, variable)
    wanted = _partner(label_at(document, place), labels(variable)) if label is None else label
    return intervened(document, place, wanted)


def intervened(document: Document, place: int, label: str) -> Document:
    """do(what the word at `place` decides = label).

    Raises:
        InputError: the word there decides nothing, or the label is not one of its variable.
    """
    mark = deciding_mark(document, place)
    allowed = _labels_of(mark)
    if label not in allowed:
        raise InputError(f"{mark.decides} has no label {label!r}; it has {', '.join(allowed)}")
    own = own_label(document, place, label)
    return read(tuple(_word(token, place, own) for token in document.tokens))


def consequence(document: Document, place: int) -> int | None:
    """The place of the first later word that depends on the label decided at `place`, if there is one.

    A word that is the same under every label ("walked", for number) does not depend on it.

    Raises:
        InputError: the word at `place` decides nothing.
    """
    deciding_mark(document, place)
    for later in range(place + 1, len(document.tokens)):
        if place in document.tokens[later].sources and len(set(words_at(document, place, later).values())) > 1:
            return later
    return None


def words_at(document: Document, place: int, later: int) -> dict[str, str]:
    """For each label that the word at `place` could decide, the word that would then stand at a later place."""
    allowed = _labels_of(deciding_mark(document, place))
    return {label: _word(document.tokens[later], place, own_label(document, place, label)) for label in allowed}


def _labels_of(mark: Mark) -> tuple[str, ...]:
    """The labels of the variable that a word decides."""
    return LABELS[variable_of(mark.decides or "")]


def _word(token: Token, place: int, label: str) -> str:
    """The word in a token's place if the word at `place` had this label of its own."""
    if token.mark is None or place not in token.sources:
        return token.word
    changed = zip(token.sources, token.mark.labels, strict=True)
    key = tuple(label if source == place else held for source, held in changed)
    return TABLES[token.mark.wordclass].words[key][token.mark.index]


def _partner(label: str, among: tuple[str, ...]) -> str:
    """The other one of the label's pair."""
    return among[among.index(label) ^ 1]
