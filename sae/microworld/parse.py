"""Reading the language: from a text back to every choice made in writing it, or to what is wrong with it.

The automaton is deterministic, so there is one way to read a text. A word that cannot stand in its place but could if
one remembered label were another ("the keys … is") is a contradiction: it names the variable, and reading goes on as
the frame would. Any other word that cannot stand there ends the reading.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sae.core.errors import InputError
from sae.microworld.automaton import START, Option, StateId, state
from sae.microworld.generate import MAX_SENTENCES, Document, not_there, traced
from sae.microworld.grammar import variable_of
from sae.microworld.lexicon import LABELS


@dataclass(frozen=True)
class Fault:
    """A word that cannot stand where it stands."""

    place: int
    word: str
    message: str
    variable: str | None
    """That the word contradicts, or None where no label would allow it."""


@dataclass(frozen=True)
class Reading:
    """What the parser makes of a text."""

    document: Document
    """The words that could be read: all of them, or those before the fault that ended the reading."""
    faults: tuple[Fault, ...]
    complete: bool
    """The text ends where a sentence ends."""

    @property
    def grammatical(self) -> bool:
        """A beginning of a text of the language, or a whole one."""
        return not self.faults


def judge(text: str | Sequence[str]) -> Reading:
    """Reads any text, grammatical or not; the judge of what a model writes.

    Args:
        text: words joined by spaces, or the words; it may end within a sentence.
    """
    words = text.split() if isinstance(text, str) else tuple(text)
    options: list[Option] = []
    faults: list[Fault] = []
    at = START
    for place, word in enumerate(words):
        option = state(at).by_word.get(word)
        if option is None:
            option, fault = _contradiction(words, place, at)
            faults.append(fault)
        if option is None:
            break
        options.append(option)
        at = option.target
    return Reading(Document(traced(options)), tuple(faults), complete=bool(options) and at.node == START.node)


def read(text: str | Sequence[str]) -> Document:
    """The document that a text is.

    Raises:
        InputError: the text is not of the language; names the first word that cannot stand in its place and those that
            can, or says that a sentence is unfinished or that there are too many.
    """
    reading = judge(text)
    if reading.faults:
        raise InputError(reading.faults[0].message)
    whole = text if isinstance(text, str) else " ".join(text)
    shown = whole if len(whole) <= 80 else f"{whole[:80]}…"
    if not whole.strip():
        raise InputError(f"the text is empty; a text has 1 to {MAX_SENTENCES} sentences")
    if not reading.complete:
        raise InputError(f"the text {shown!r} ends in the middle of a sentence; a text has 1 to {MAX_SENTENCES}")
    n_sentences = reading.document.tokens[-1].sentence + 1
    if n_sentences > MAX_SENTENCES:
        raise InputError(f"the text {shown!r} has {n_sentences} sentences; a text has 1 to {MAX_SENTENCES}")
    return reading.document


def _contradiction(words: Sequence[str], place: int, at: StateId) -> tuple[Option | None, Fault]:
    """The word read as if one label were another, and what is wrong with it."""
    word, message = words[place], not_there(words, place, at)
    for instance, label, elsewhere in _other_memories(at):
        option = state(elsewhere).by_word.get(word)
        if option is not None:
            kept = tuple((name, label if name == instance else held) for name, held in option.target.memory)
            said = dict(elsewhere.memory)[instance]
            message = f"{message}; {word!r} would follow if {instance} were {said}, but it is {label}"
            as_framed = option._replace(target=StateId(option.target.node, kept))
            return as_framed, Fault(place, word, message, variable_of(instance))
    return None, Fault(place, word, message, None)


def _other_memories(at: StateId) -> Iterator[tuple[str, str, StateId]]:
    """The instance changed, its true label, and the state as it would be under another one."""
    for number, (instance, label) in enumerate(at.memory):
        for other in LABELS[variable_of(instance)]:
            if other != label:
                memory = (*at.memory[:number], (instance, other), *at.memory[number + 1 :])
                yield instance, label, StateId(at.node, memory)
