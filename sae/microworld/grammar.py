"""Templates of sentences, read into weighted sequences of slots.

A template is a sequence of parts; a part is a word, a slot in braces, or alternatives in parentheses. Reading expands
the alternatives: template → [(weight, slots)], where the weights add up to one.
"""

import re
from dataclasses import dataclass

_PART = re.compile(r"\{\w+(?:[:<]\w+)?\}|[(|)]|[^\s{}()|]+")


@dataclass(frozen=True)
class Word:
    """One fixed word."""

    text: str


@dataclass(frozen=True)
class Free:
    """Any word of a plain class."""

    wordclass: str


@dataclass(frozen=True)
class Decides:
    """Any label of a labelled class, then any of its words: here the variable is expressed."""

    wordclass: str
    variable: str


@dataclass(frozen=True)
class Follows:
    """Any word that a labelled class has for the variable's label, decided earlier in the sentence."""

    wordclass: str
    variable: str


Slot = Word | Free | Decides | Follows
Sequence = tuple[float, tuple[Slot, ...]]


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
    inside = part[1:-1]
    if ":" in inside:
        return Decides(*inside.split(":"))
    if "<" in inside:
        return Follows(*inside.split("<"))
    return Free(inside)
