"""What a text expresses: which word decides a variable, with which label, and what is known at every word.

The sentiment of a review is that of its judging word, turned round where a negation stands before it ("hardly rude"):
the generator samples the two independently, and the label is what both together say.
"""

from sae.core.errors import InputError, nearest
from sae.microworld.automaton import TEXT_LEVEL, Mark
from sae.microworld.generate import Document, Token
from sae.microworld.grammar import variable_of
from sae.microworld.lexicon import LABELS, VARIABLES

ASPECTS = ("sentiment.food", "sentiment.staff", "sentiment.place", "sentiment.show")
"""What is judged, each with a sentiment of its own; `sentiment` stands for any of them, or for the whole visit."""
TURNED = {"positive": "negative", "negative": "positive"}


def labels(variable: str) -> tuple[str, ...]:
    """The labels of a variable or aspect.

    Raises:
        InputError: there is no such variable; names those there are.
    """
    allowed = (*VARIABLES, *ASPECTS)
    if variable not in allowed:
        shown = ", ".join(allowed)
        raise InputError(f"no variable {variable!r}; there are {shown}{nearest(variable, allowed)}")
    return LABELS[variable_of(variable)]


def decisions(document: Document, variable: str) -> tuple[int, ...]:
    """The places of the words that decide a variable or aspect, in order.

    An attractor's number and a second name's gender are not the sentence's own and do not count.

    Raises:
        InputError: there is no such variable.
    """
    labels(variable)
    return tuple(place for place, token in enumerate(document.tokens) if _is(variable, token))


def decision(document: Document, variable: str) -> int:
    """The place of the first word that decides it.

    Raises:
        InputError: there is no such variable, or the text does not express it; names those that it does.
    """
    places = decisions(document, variable)
    if not places:
        expressed = [each for each in VARIABLES if decisions(document, each)]
        raise InputError(
            f"the text {document.text!r} does not express {variable}; it has {', '.join(expressed) or 'none'}"
        )
    return places[0]


def deciding_mark(document: Document, place: int) -> Mark:
    """How the word at a deciding place depends on its variable.

    Raises:
        InputError: there is no such place, or the word there decides nothing.
    """
    if not 0 <= place < len(document.tokens):
        raise InputError(f"no word at place {place}; the text has words 0 to {len(document.tokens) - 1}")
    mark = document.tokens[place].mark
    if mark is None or mark.decides is None:
        raise InputError(f"the word {document.words[place]!r} at place {place} decides no variable")
    return mark


def label_at(document: Document, place: int) -> str:
    """The label that the word at a deciding place gives its variable.

    Raises:
        InputError: the word there decides nothing.
    """
    mark = deciding_mark(document, place)
    assert mark.decides is not None
    label = mark.labels[mark.instances.index(mark.decides)]
    return TURNED[label] if _is_turned(document, place) else label


def own_label(document: Document, place: int, label: str) -> str:
    """The label of the word itself that gives its variable this one; they differ after a negation."""
    return TURNED[label] if _is_turned(document, place) else label


def values(document: Document) -> tuple[dict[str, str], ...]:
    """For every word the label of each variable, aspect, attractor and second name that is decided by then.

    A sentence's variables are forgotten at its end; the topic stays.
    """
    known: dict[str, str] = {}
    result: list[dict[str, str]] = []
    for place, token in enumerate(document.tokens):
        if place and token.sentence != document.tokens[place - 1].sentence:
            known = {name: label for name, label in known.items() if name in TEXT_LEVEL}
        if token.mark is not None and token.mark.decides is not None:
            known = {**known, token.mark.decides: label_at(document, place)}
        result.append(known)
    return tuple(result)


def _is(variable: str, token: Token) -> bool:
    if token.mark is None or token.mark.decides is None:
        return False
    instance = token.mark.decides
    return instance == variable or (variable == "sentiment" and instance in ASPECTS)


def _is_turned(document: Document, place: int) -> bool:
    """Whether the word judges and a negation stands right before it."""
    mark, before = document.tokens[place].mark, document.tokens[place - 1].mark if place else None
    judges = mark is not None and variable_of(mark.decides or "") == "sentiment"
    return judges and before is not None and before.decides == "negation" and before.labels == ("negated",)
