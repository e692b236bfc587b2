"""Templates of sentences, read into weighted sequences of slots.

A template is a sequence of parts:

    word                    itself
    {class}                 any word of a plain class
    {class:variable}        decides a variable: one of its labels, then one of the label's words
    {class<variable}        follows the variable decided earlier in the sentence
    {class~variable}        follows the variable if the text has decided it, else decides it
    {class<one:two}         depends on both: on the one decided earlier, while the other is decided here
    ( a | b )               one of its alternatives, all equally likely; a blank one is allowed

`variable.part` is another instance of the same variable: `number.attractor`, `sentiment.food`.
Reading expands the alternatives: template → [(weight, slots)], where the weights add up to one.
"""

import re
from dataclasses import dataclass
from typing import Literal

_PART = re.compile(r"\{\w+(?:[:<~][\w.]+)*\}|[(|)]|[^\s{}()|]+")
_KEY = re.compile(r"([:<~])([\w.]+)")


@dataclass(frozen=True)
class Word:
    """One fixed word."""

    text: str


@dataclass(frozen=True)
class Free:
    """Any word of a plain class."""

    wordclass: str


@dataclass(frozen=True)
class Key:
    """An instance of a variable on which a word depends, and whether the word decides or follows it."""

    instance: str
    role: Literal[":", "<", "~"]


@dataclass(frozen=True)
class Dependent:
    """A word of a table, whose dimensions are the variables of the keys."""

    wordclass: str
    keys: tuple[Key, ...]


Slot = Word | Free | Dependent
Sequence = tuple[float, tuple[Slot, ...]]


def variable_of(instance: str) -> str:
    """`number.attractor` is an instance of `number`."""
    return instance.partition(".")[0]


def read_template(template: str) -> list[Sequence]:
    """All sequences of slots that a template stands for, with their probabilities."""
    parts = _PART.findall(template)
    sequences, rest = _alternatives(parts)
    assert not rest, f"unbalanced ) in {template!r}"
    return sequences


def _alternatives(parts: list[str]) -> tuple[list[Sequence], list[str]]:
    branches = []
    while True:
        branch, parts = _sequence(parts)
        branches.append(branch)
        if not parts or parts[0] == ")":
            break
        parts = parts[1:]
    return [(weight / len(branches), slots) for branch in branches for weight, slots in branch], parts


def _sequence(parts: list[str]) -> tuple[list[Sequence], list[str]]:
    sequences: list[Sequence] = [(1.0, ())]
    while parts and parts[0] not in "|)":
        if parts[0] == "(":
            tails, parts = _alternatives(parts[1:])
            assert parts[:1] == [")"], "unbalanced ( in a template"
        else:
            tails = [(1.0, (_slot(parts[0]),))]
        parts = parts[1:]
        sequences = [(p * q, slots + tail) for p, slots in sequences for q, tail in tails]
    return sequences, parts


def _slot(part: str) -> Slot:
    if not part.startswith("{"):
        return Word(part)
    keys = tuple(Key(instance, role) for role, instance in _KEY.findall(part))  # type: ignore[arg-type]
    wordclass = re.split("[:<~]", part[1:-1])[0]
    return Dependent(wordclass, keys) if keys else Free(wordclass)
