#!/usr/bin/env python3
"""Writes configs/concepts/stories.jsonl: labelled texts in the words of children's stories, from a few templates.

Two variables. `gender`: a girl's or a boy's name, its consequence the pronoun that begins the next sentence.
`feeling`: something good or bad happens, its consequence the feeling that is named. Every text has a twin in which
only that variable differs; names are paired so that their twins are equally long for stories260K's tokenizer.

    python scripts/write_story_concepts.py
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

from sae.core.random import numpy_generator
from sae.core.records import Consequence, LabelledText, Twin, write_labelled_texts

N_PER_VARIABLE = 300
NAMES = (
    ("Lily", "Timmy"), ("Sara", "Max"), ("Anna", "John"), ("Mia", "Bob"), ("Amy", "Tommy"), ("Lucy", "Jack"),
    ("Jane", "Joe"), ("Sue", "Mark"), ("Emma", "Bobby"), ("Lila", "Leo"), ("Molly", "Billy"), ("Mary", "Jim"),
    ("Kitty", "Fred"), ("Ella", "Peter"),
)  # fmt: skip
OPENINGS = ("", "One day, ", "One sunny day, ", "Once upon a time, ", "The next day, ", "In the morning, ")
ACTIONS = (
    "went to the park", "found a big box", "wanted to play", "saw a little bird", "liked to play with a ball",
    "had a red car", "went for a walk", "looked at the sky", "ran to the big tree", "went to the store",
    "found a shiny rock", "made a cake",
)  # fmt: skip
EVENTS = (
    ("played all day with friends", "fell down and got hurt"),
    ("found the lost toy", "lost the best toy"),
    ("got a big hug from mom", "got a cut on the knee"),
    ("had fun at the park", "could not go to the park"),
    ("ate a yummy cake", "dropped the yummy cake"),
    ("saw a good friend", "lost a good friend"),
)
GENDER = {"girl": " She", "boy": " He"}
FEELING = {"happy": " happy", "sad": " sad"}


def gender_texts() -> Iterator[LabelledText]:
    """Name, action, and then the pronoun."""
    for opening, names, action in itertools.product(OPENINGS, NAMES, ACTIONS):
        bodies = [f"{opening}{name} {action}." for name in names]
        spans = [(len(opening), len(opening) + len(name)) for name in names]
        yield from _pair("gender", bodies, spans, GENDER, " smiled.")


def feeling_texts() -> Iterator[LabelledText]:
    """Name, event, and then the feeling."""
    everyone = [name for pair in NAMES for name in pair]
    for opening, name, events in itertools.product(OPENINGS, everyone, EVENTS):
        starts = f"{opening}{name} "
        pronoun = GENDER["girl" if name in {girl for girl, _ in NAMES} else "boy"]
        bodies = [f"{starts}{event}.{pronoun} was very" for event in events]
        spans = [(len(starts), len(starts) + len(event)) for event in events]
        yield from _pair("feeling", bodies, spans, FEELING, ".")


def _pair(
    variable: str, bodies: list[str], spans: list[tuple[int, int]], tokens: dict[str, str], ending: str
) -> Iterator[LabelledText]:
    """Both versions of one text, each the other's twin."""
    whole = [body + tokens[label] + ending for body, label in zip(bodies, tokens, strict=True)]
    labels = list(tokens)
    for own, other in ((0, 1), (1, 0)):
        yield LabelledText(
            text=whole[own],
            variable=variable,
            label=labels[own],
            span=spans[own],
            consequence=Consequence(position=len(bodies[own]), tokens=tokens),
            twin=Twin(text=whole[other], label=labels[other], span=spans[other]),
            group=f"{variable}: {whole[0]}",
        )


def sample(texts: Iterator[LabelledText]) -> list[LabelledText]:
    """As many of each label, every origin once."""
    both = list(texts)
    origins = list(zip(both[::2], both[1::2], strict=True))
    chosen = numpy_generator(0, "stories", origins[0][0].variable).permutation(len(origins))[:N_PER_VARIABLE]
    return [origins[origin][number % 2] for number, origin in enumerate(chosen)]


def main() -> None:
    path = Path(__file__).parent.parent / "configs" / "concepts" / "stories.jsonl"
    path.parent.mkdir(exist_ok=True)
    write_labelled_texts(path, sample(gender_texts()) + sample(feeling_texts()))


if __name__ == "__main__":
    main()
