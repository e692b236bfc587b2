"""Labelled texts and their counterfactual twins.

A labelled text is one sentence that expresses the variable, after one or two others. Its sentence is drawn from the
language, then do(variable = label) gives it the wanted label, and do(variable = another label) its twin: the same
choices everywhere else, hence the same length, word for word.
"""

from collections.abc import Iterator
from random import Random

from sae.core.errors import InputError, nearest
from sae.core.records import Consequence, LabelledText, Twin
from sae.microworld.frames import VARIABLES
from sae.microworld.generate import Sentence, character_offsets, intervene, sentence, stream
from sae.microworld.lexicon import LABELLED


def labels(variable: str) -> tuple[str, ...]:
    """The labels of a variable; raises InputError for an unknown one."""
    match variable:
        case "number":
            return tuple(LABELLED["is"])
        case "sentiment":
            return tuple(LABELLED["verdict"])
        case "capital":
            return tuple(LABELLED["city"])
        case _:
            allowed = ", ".join(VARIABLES)
            raise InputError(f"no variable {variable!r}; there are {allowed}{nearest(variable, VARIABLES)}")


def labelled(variable: str, n: int, seed: int) -> list[LabelledText]:
    """`n` different texts that express the variable, their labels balanced, each with its consequence and its twin.

    Args:
        variable: one of `VARIABLES`. Every other text of `number` has an attractor of the other number.
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
    for wanted, attracted in _plan(rng, allowed, n):
        record = _record(rng, variable, wanted, attracted)
        while record.text in written:
            record = _record(rng, variable, wanted, attracted)
        written[record.text] = record.model_copy(update={"group": f"microworld/{variable}/{seed}/{len(written)}"})
    return list(written.values())


def twin_of(text: LabelledText) -> LabelledText:
    """The twin as a labelled text of its own, whose twin is the text."""
    if text.twin is None:
        raise InputError(f"the text {text.text!r} has no twin")
    consequence = text.consequence
    if consequence is not None:
        word = text.text[: consequence.position].count(" ") + 1
        position = character_offsets(text.twin.text.split(" "))[word] - 1
        consequence = Consequence(position=position, tokens=consequence.tokens)
    return LabelledText(
        text=text.twin.text,
        variable=text.variable,
        label=text.twin.label,
        span=text.twin.span,
        consequence=consequence,
        twin=Twin(text=text.text, label=text.label, span=text.span),
        group=text.group,
    )


def _plan(rng: Random, allowed: tuple[str, ...], n: int) -> Iterator[tuple[str, bool]]:
    """Labels in rounds of all of them, each round in an order of its own; every other round is with an attractor."""
    for begin in range(0, n, len(allowed)):
        for label in rng.sample(allowed, len(allowed))[: n - begin]:
            yield label, begin // len(allowed) % 2 == 0


def _record(rng: Random, variable: str, label: str, attracted: bool) -> LabelledText:
    chosen = _expressing(rng, variable, label, attracted and variable == "number")
    other = rng.choice([each for each in labels(variable) if each != label])
    before = [word for _ in range(rng.randint(1, 2)) for word in sentence(rng).words]
    counterfactual = _text(before, intervene(chosen, variable, other), variable)
    return _text(before, chosen, variable).model_copy(
        update={"twin": Twin(text=counterfactual.text, label=other, span=counterfactual.span)}
    )


def _expressing(rng: Random, variable: str, label: str, attracted: bool) -> Sentence:
    """A sentence with the wanted label and, if asked for, an attractor of another."""
    while True:
        drawn = sentence(rng)
        if drawn.decided(variable) is None:
            continue
        wanted = intervene(drawn, variable, label)
        if not attracted or _opposed(wanted, label):
            return wanted


def _opposed(drawn: Sentence, label: str) -> bool:
    attractor = drawn.decided("attractor")
    return attractor is not None and attractor.mark.label != label


def _text(before: list[str], chosen: Sentence, variable: str) -> LabelledText:
    words = [*before, *chosen.words]
    begins = character_offsets(words)
    decided, followed = chosen.decided(variable), chosen.followed(variable)
    assert decided is not None, f"{' '.join(words)!r} does not express {variable}"
    assert followed is not None, f"nothing follows from {variable} in {' '.join(words)!r}"
    begin, mark = begins[len(before) + decided.position], followed.mark
    return LabelledText(
        text=" ".join(words),
        variable=variable,
        label=decided.mark.label,
        span=(begin, begin + len(chosen.words[decided.position])),
        consequence=Consequence(
            position=begins[len(before) + followed.position] - 1,
            tokens={label: f" {counterparts[mark.index]}" for label, counterparts in LABELLED[mark.wordclass].items()},
        ),
    )
