"""The language as a deterministic weighted automaton over words.

1. The frames' sequences of slots go into one tree: sequences that begin alike share their path, and an edge weighs what
   the sequences below it weigh together.
2. A state is a node of the tree with the labels that are decided and may be followed later: in the sentence, or in the
   text (its topic). Its options are the words that may come next, each with its probability, its next state and, where
   a variable is concerned, a mark.
3. No two options of a state share a word. So a prefix determines the state, the options' probabilities are the exact
   distribution of the next word given the visible prefix, and reading a text recovers every choice made in writing it.

A sentence's end leads back to the root: sentences share nothing but their topic.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import NamedTuple, assert_never

from sae.microworld.frames import FAMILIES
from sae.microworld.grammar import Dependent, Free, Slot, Word, read_template, variable_of
from sae.microworld.lexicon import LABELS, PLAIN, TABLES

TEXT_LEVEL = ("topic",)
"""Variables that a text decides once; the others are decided anew in every sentence."""

Memory = tuple[tuple[str, str], ...]
"""(instance, label) of what is decided and may still be followed."""


class StateId(NamedTuple):
    """A node of the tree and what is remembered there."""

    node: int
    memory: Memory


START = StateId(0, ())


@dataclass(frozen=True)
class Mark:
    """How a word depends on variables."""

    wordclass: str
    index: int
    """Which of the words of its labels: the counterpart under other labels has the same index."""
    instances: tuple[str, ...]
    """On which it depends, in the order of the table's dimensions."""
    labels: tuple[str, ...]
    """Of the instances."""
    decides: str | None
    """The instance that this word decides, if it decides one."""


class Option(NamedTuple):
    """One word that may come next."""

    word: str
    probability: float
    target: StateId
    mark: Mark | None


@dataclass(frozen=True)
class State:
    """What may come next, in the forms that sampling and reading need."""

    by_word: dict[str, Option]
    options: tuple[Option, ...]
    cumulative: tuple[float, ...]
    """Running sum of the probabilities; its last entry exceeds 1, against rounding."""


@dataclass
class _Node:
    """A node of the tree of slots."""

    number: int
    edges: dict[Slot, "_Node"] = field(default_factory=dict)
    weight: float = 0.0
    followed: frozenset[str] = frozenset(TEXT_LEVEL)
    """Instances that some word below follows."""

    def insert(self, nodes: list["_Node"], weight: float, slots: tuple[Slot, ...]) -> None:
        self.weight += weight
        if slots:
            if slots[0] not in self.edges:
                self.edges[slots[0]] = _Node(len(nodes))
                nodes.append(self.edges[slots[0]])
            self.edges[slots[0]].insert(nodes, weight, slots[1:])


@cache
def _tree() -> tuple[_Node, ...]:
    nodes = [_Node(0)]
    for share, family in FAMILIES:
        total = sum(weight for weight, _ in family)
        for weight, template in family:
            for probability, slots in read_template(template):
                nodes[0].insert(nodes, share * weight / total * probability, slots)
    for node in reversed(nodes):  # children come after their parents
        here = {k.instance for slot in node.edges if isinstance(slot, Dependent) for k in slot.keys if k.role == "<"}
        node.followed = node.followed.union(here, *(child.followed for child in node.edges.values()))
    return tuple(nodes)


@cache
def state(at: StateId) -> State:
    """The state with this id; made when it is first visited."""
    node, options = _tree()[at.node], dict[str, Option]()
    for slot, child in node.edges.items():
        for word, share, mark in _words(slot, at.memory):
            assert word not in options, f"two ways to write {word!r} after the same prefix"
            target = StateId(child.number if child.edges else 0, _remembered(child, at.memory, mark))
            options[word] = Option(word, share * child.weight / node.weight, target, mark)
    cumulative = list(accumulate(option.probability for option in options.values()))
    assert abs(cumulative[-1] - 1) < 1e-9, f"probabilities add up to {cumulative[-1]}"
    cumulative[-1] = 2.0
    return State(options, tuple(options.values()), tuple(cumulative))


def states() -> Iterator[tuple[StateId, State]]:
    """Every state that a text can reach."""
    seen, queue = {START}, [START]
    while queue:
        at = queue.pop()
        yield at, state(at)
        fresh = dict.fromkeys(option.target for option in state(at).options if option.target not in seen)
        seen.update(fresh)
        queue.extend(fresh)


def words() -> tuple[str, ...]:
    """Every word of the language, sorted."""
    found: set[str] = set()
    for slot in {slot for node in _tree() for slot in node.edges}:
        match slot:
            case Word(text):
                found.add(text)
            case Free(wordclass):
                found.update(PLAIN[wordclass])
            case Dependent(wordclass):
                found.update(word for row in TABLES[wordclass].words.values() for word in row)
            case _:
                assert_never(slot)
    return tuple(sorted(found))


def _remembered(child: _Node, memory: Memory, mark: Mark | None) -> Memory:
    """What must still be known at the child."""
    if mark is not None and mark.decides is not None:
        memory = (*memory, (mark.decides, mark.labels[mark.instances.index(mark.decides)]))
    return tuple(item for item in memory if item[0] in child.followed)


def _words(slot: Slot, memory: Memory) -> Iterator[tuple[str, float, Mark | None]]:
    """The words of a slot, their shares of its probability, and their marks."""
    match slot:
        case Word(text):
            yield text, 1.0, None
        case Free(wordclass):
            words = PLAIN[wordclass]
            yield from ((word, 1 / len(words), None) for word in words)
        case Dependent():
            yield from _dependent(slot, dict(memory))
        case _:
            assert_never(slot)


def _dependent(slot: Dependent, known: dict[str, str]) -> Iterator[tuple[str, float, Mark]]:
    table, instances = TABLES[slot.wordclass], tuple(key.instance for key in slot.keys)
    assert table.dimensions == tuple(map(variable_of, instances)), f"{slot} does not fit its table"
    assert all(key.role != ":" or key.instance not in known for key in slot.keys), f"{slot} decides twice"
    open_ = [i for i, key in enumerate(slot.keys) if key.role == ":" or (key.role == "~" and key.instance not in known)]
    assert len(open_) <= 1, f"{slot} decides more than one variable"
    decided = instances[open_[0]] if open_ else None
    choices = LABELS[variable_of(decided)] if decided else ("",)
    for choice in choices:
        labels = tuple(choice if instance == decided else known[instance] for instance in instances)
        words = table.words[labels]
        for index, word in enumerate(words):
            yield word, 1 / len(choices) / len(words), Mark(slot.wordclass, index, instances, labels, decided)
