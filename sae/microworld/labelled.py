"""Labelled texts: texts that express a variable, with its consequence and a counterfactual twin.

A text has one or two sentences and then the one that a consequence stands in. It is drawn from the language until its
last sentence has what is wanted; then do(variable = label) gives it the wanted label, and do(variable = another label)
makes its twin.
"""

from collections.abc import Iterator
from random import Random

from sae.core.errors import InputError
from sae.core.records import Consequence, LabelledText, Twin
from sae.microworld.automaton import TEXT_LEVEL, Option
from sae.microworld.counterfactual import consequence, intervened, twin, words_at
from sae.microworld.generate import Document, stream, traced, walk
from sae.microworld.labels import decision, decisions, label_at, labels
from sae.microworld.parse import read

_RIVALS = {"number": "number.attractor", "gender": "gender.other"}
"""Instances of the same variable that can stand between its word and what follows from it."""
_N_TRIES = 200
"""Last sentences tried after the same beginning."""


def labelled(variable: str, n: int, seed: int) -> list[LabelledText]:
    """`n` different texts that express the variable, their labels balanced, each with its consequence and its twin.

    Args:
        variable: one of `VARIABLES` or `ASPECTS`. Every other text of `number` has an attractor of the other number
            between subject and verb, of `gender` a name of the other gender between name and pronoun.
        n: texts, twins not counted.
        seed: the same texts for the same seed.

    Raises:
        InputError: the variable is unknown, or n is negative.
    """
    allowed = labels(variable)
    if n < 0:
        raise InputError(f"cannot write {n} texts; the number must not be negative")
    rng = stream(f"labelled/{variable}", seed)
    written: dict[str, LabelledText] = {}
    for wanted, opposed in _plan(rng, allowed, n):
        record = _record(rng, variable, wanted, opposed)
        while record.text in written:
            record = _record(rng, variable, wanted, opposed)
        written[record.text] = record.model_copy(update={"group": f"microworld/{variable}/{seed}/{len(written)}"})
    return list(written.values())


def twin_of(text: LabelledText) -> LabelledText:
    """The twin as a labelled text of its own, whose twin is the text.

    Raises:
        InputError: the text has no twin.
    """
    if text.twin is None:
        raise InputError(f"the text {text.text!r} has no twin")
    held = text.consequence
    if held is not None:
        place = text.text[: held.position].count(" ") + 1
        held = Consequence(position=read(text.twin.text).begins[place] - 1, tokens=held.tokens)
    return LabelledText(
        text=text.twin.text,
        variable=text.variable,
        label=text.twin.label,
        span=text.twin.span,
        consequence=held,
        twin=Twin(text=text.text, label=text.label, span=text.span),
        group=text.group,
    )


def _plan(rng: Random, allowed: tuple[str, ...], n: int) -> Iterator[tuple[str, bool]]:
    """Labels in rounds of all of them, each round in an order of its own; every other round is with a rival."""
    for begin in range(0, n, len(allowed)):
        for label in rng.sample(allowed, len(allowed))[: n - begin]:
            yield label, begin // len(allowed) % 2 == 0


def _record(rng: Random, variable: str, label: str, opposed: bool) -> LabelledText:
    document, place = _expressing(rng, variable, label, opposed and variable in _RIVALS)
    other = rng.choice([each for each in labels(variable) if each != label])
    return _labelled(document, variable, place, other)


def labelled_text(document: Document, variable: str) -> LabelledText:
    """A given text as a labelled text: what first decides the variable, what follows from it, and its twin.

    Raises:
        InputError: there is no such variable, or the text does not express it.
    """
    place = decision(document, variable)
    return _labelled(document, variable, place, label_at(twin(document, variable), place))


def _labelled(document: Document, variable: str, place: int, other: str) -> LabelledText:
    later, counterfactual = consequence(document, place), intervened(document, place, other)
    follows = None
    if later is not None:
        tokens = {label: f" {word}" for label, word in words_at(document, place, later).items()}
        follows = Consequence(position=document.begins[later] - 1, tokens=tokens)
    return LabelledText(
        text=document.text,
        variable=variable,
        label=label_at(document, place),
        span=_span(document, place),
        consequence=follows,
        twin=Twin(text=counterfactual.text, label=other, span=_span(counterfactual, place)),
    )


def _span(document: Document, place: int) -> tuple[int, int]:
    begin = document.begins[place]
    return begin, begin + len(document.words[place])


def _expressing(rng: Random, variable: str, label: str, opposed: bool) -> tuple[Document, int]:
    """A text whose last sentence has a consequence of the label, and where it is decided."""
    while True:
        before = walk(rng, rng.randint(1, 2))
        if variable in TEXT_LEVEL and not _is_open(Document(traced(before)), variable):
            continue
        for _ in range(_N_TRIES):
            document = _followed_by(before, walk(rng, 1, before[-1].target), variable)
            place = None if document is None else _place(document, variable)
            if document is None or place is None:
                continue
            wanted = intervened(document, place, label)
            if not opposed or _is_opposed(wanted, place, _RIVALS[variable]):
                return wanted, place


def _is_open(before: Document, variable: str) -> bool:
    """Whether a beginning decides the variable and nothing has followed from it yet."""
    return any(consequence(before, place) is None for place in decisions(before, variable))


def _followed_by(before: list[Option], last: list[Option], variable: str) -> Document | None:
    """The document of both, if its last sentence has a word that depends on the variable."""
    if any(option.mark and variable in {*option.mark.instances, *_wholes(option.mark.instances)} for option in last):
        return Document(traced([*before, *last]))
    return None


def _wholes(instances: tuple[str, ...]) -> Iterator[str]:
    return (instance.partition(".")[0] for instance in instances)


def _place(document: Document, variable: str) -> int | None:
    """Where the variable is decided whose consequence stands in the last sentence: before it, for a text's variable."""
    last = document.tokens[-1].sentence
    for place in decisions(document, variable):
        later = consequence(document, place)
        decided_early = document.tokens[place].sentence < last
        if later is not None and document.tokens[later].sentence == last and decided_early == (variable in TEXT_LEVEL):
            return place
    return None


def _is_opposed(document: Document, place: int, rival: str) -> bool:
    later = consequence(document, place)
    return any(
        token.mark is not None and token.mark.decides == rival and label_at(document, at) != label_at(document, place)
        for at, token in enumerate(document.tokens[:later])
        if at > place
    )
