"""The language as a deterministic weighted automaton over words.

1. The frames' sequences of slots go into one tree: sequences that begin alike share their path, and an edge weighs what
   the sequences below it weigh together.
2. A state is a node of the tree with the labels that are decided above it and followed below it. Its options are the
   words that may come next, each with its probability, its next state and, where a variable is concerned, a mark.
3. No two options of a state share a word. So a prefix determines the state, the options' probabilities are the exact
   distribution of the next word given the visible prefix, and reading a text recovers every choice made in writing it.

A sentence's end leads back to the start: sentences are independent of each other.
"""

from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import NamedTuple, assert_never

from sae.microworld.frames import FAMILIES
from sae.microworld.grammar import Decides, Follows, Free, Slot, Word, read_template
from sae.microworld.lexicon import LABELLED, PLAIN


@dataclass(frozen=True)
class Mark:
    """A word that expresses a variable, or follows from it."""

    variable: str
    label: str
    wordclass: str
    index: int
    """Which of the label's words: the counterpart under another label has the same index."""
    decides: bool


class Option(NamedTuple):
    """One word that may come next."""

    word: str
    probability: float
    target: int
    """The state it leads to."""
    mark: Mark | None


class State(NamedTuple):
    """What may come next, in the forms that sampling and reading need."""

    options: dict[str, Option]
    words: tuple[str, ...]
    cumulative: tuple[float, ...]
    """Running sum of the probabilities; its last entry exceeds 1, against rounding."""
    targets: tuple[int, ...]


@dataclass
class _Node:
    """A node of the tree of slots."""

    edges: dict[Slot, "_Node"] = field(default_factory=dict)
    weight: float = 0.0

    def insert(self, weight: float, slots: tuple[Slot, ...]) -> None:
        self.weight += weight
        if slots:
            self.edges.setdefault(slots[0], _Node()).insert(weight, slots[1:])

    def followed(self) -> set[str]:
        """The variables that some word below follows."""
        here = {slot.variable for slot in self.edges if isinstance(slot, Follows)}
        return here.union(*(node.followed() for node in self.edges.values()))


Memory = tuple[tuple[str, str], ...]


@cache
def language() -> tuple[State, ...]:
    """The compiled automaton; state 0 is the start of a sentence."""
    root = _Node()
    for share, family in FAMILIES:
        total = sum(weight for weight, _ in family)
        for weight, template in family:
            for probability, slots in read_template(template):
                root.insert(share * weight / total * probability, slots)
    return _compile(root)


def _compile(root: _Node) -> tuple[State, ...]:
    numbers: dict[tuple[int, Memory], int] = {(id(root), ()): 0}
    queue: list[tuple[_Node, Memory]] = [(root, ())]
    states: list[State] = []
    while len(states) < len(queue):
        node, memory = queue[len(states)]
        options: dict[str, Option] = {}
        for slot, child in node.edges.items():
            for word, share, mark in _words(slot, memory):
                assert word not in options, f"two ways to write {word!r} after the same prefix"
                remembered = _remembered(child, memory, mark)
                after = (id(child), remembered) if child.edges else (id(root), ())
                if after not in numbers:
                    numbers[after] = len(queue)
                    queue.append((child, remembered))
                options[word] = Option(word, share * child.weight / node.weight, numbers[after], mark)
        states.append(_state(options))
    return tuple(states)


def _remembered(child: _Node, memory: Memory, mark: Mark | None) -> Memory:
    """What must still be known at the child."""
    if mark is not None and mark.decides:
        memory = (*memory, (mark.variable, mark.label))
    needed = child.followed()
    return tuple(item for item in memory if item[0] in needed)


def _words(slot: Slot, memory: Memory) -> list[tuple[str, float, Mark | None]]:
    """The words of a slot, their shares of its probability, and their marks."""
    match slot:
        case Word(text):
            return [(text, 1.0, None)]
        case Free(wordclass):
            words = PLAIN[wordclass]
            return [(word, 1 / len(words), None) for word in words]
        case Decides(wordclass, variable):
            labels = LABELLED[wordclass]
            return [
                (word, 1 / len(labels) / len(words), Mark(variable, label, wordclass, index, True))
                for label, words in labels.items()
                for index, word in enumerate(words)
            ]
        case Follows(wordclass, variable):
            label = dict(memory)[variable]
            words = LABELLED[wordclass][label]
            return [
                (word, 1 / len(words), Mark(variable, label, wordclass, index, False))
                for index, word in enumerate(words)
            ]
        case _:
            assert_never(slot)


def _state(options: dict[str, Option]) -> State:
    cumulative = list(accumulate(option.probability for option in options.values()))
    assert abs(cumulative[-1] - 1) < 1e-9, f"probabilities add up to {cumulative[-1]}"
    cumulative[-1] = 2.0
    targets = tuple(option.target for option in options.values())
    return State(options, tuple(options), tuple(cumulative), targets)
