"""Laws of labelled texts: twins differ in one variable, spans and consequences are where they say."""

from collections import Counter

import pytest

from sae.core.errors import InputError
from sae.core.records import LabelledText
from sae.microworld import VARIABLES, labelled, labels, read, twin_of

TEXTS = {variable: labelled(variable, 300, seed=1) for variable in VARIABLES}
EVERY = [pytest.param(variable, id=variable) for variable in VARIABLES]


def with_twins(variable: str) -> list[LabelledText]:
    return [each for text in TEXTS[variable] for each in (text, twin_of(text))]


def words_after(text: LabelledText) -> str:
    assert text.consequence is not None
    return text.text[text.consequence.position :]


@pytest.mark.parametrize("variable", EVERY)
def test_texts_are_of_the_language_and_express_their_label_at_the_span(variable: str):
    for text in with_twins(variable):
        last = read(text.text.split(" "))[-1]
        decided = last.decided(variable)
        assert decided is not None
        assert decided.mark.label == text.label
        assert text.text[slice(*text.span)] == last.words[decided.position]
        assert text.text[text.span[0] - 1] == text.text[text.span[1]] == " "


@pytest.mark.parametrize("variable", EVERY)
def test_the_text_continues_with_its_labels_consequence(variable: str):
    for text in with_twins(variable):
        assert text.consequence is not None
        assert words_after(text).startswith(text.consequence.tokens[text.label] + " ")
        assert set(text.consequence.tokens) == set(labels(variable))
        assert len(set(text.consequence.tokens.values())) == len(labels(variable)), "first tokens differ"
        assert text.consequence.position >= text.span[1]


@pytest.mark.parametrize("variable", EVERY)
def test_twins_differ_only_in_the_variable_and_what_follows_from_it(variable: str):
    for text in TEXTS[variable]:
        twin = twin_of(text)
        ours, theirs = text.text.split(" "), twin.text.split(" ")
        assert len(ours) == len(theirs)
        assert twin.label != text.label
        sentences = read(ours)
        begin = len(ours) - len(sentences[-1].words)
        places = {begin + place.position for place in sentences[-1].marks if place.mark.variable == variable}
        assert {i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b} == places
        assert text.text[: text.span[0]] == twin.text[: twin.span[0]], "nothing before the span depends on the variable"


@pytest.mark.parametrize("variable", EVERY)
def test_a_twins_twin_is_the_text(variable: str):
    for text in TEXTS[variable]:
        assert twin_of(twin_of(text)) == text
        assert twin_of(text).group == text.group


@pytest.mark.parametrize("variable", EVERY)
def test_labels_are_balanced_and_texts_distinct(variable: str):
    counts = Counter(text.label for text in TEXTS[variable])
    assert set(counts) == set(labels(variable))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({text.text for text in TEXTS[variable]}) == len({text.group for text in TEXTS[variable]}) == 300


@pytest.mark.parametrize("variable", EVERY)
def test_texts_depend_on_the_seed_only(variable: str):
    assert labelled(variable, 20, seed=4) == labelled(variable, 20, seed=4)
    assert labelled(variable, 20, seed=4) != labelled(variable, 20, seed=5)


def test_half_of_the_numbers_have_an_attractor_of_the_other_number():
    opposed = 0
    for text in TEXTS["number"]:
        attractor = read(text.text.split(" "))[-1].decided("attractor")
        opposed += attractor is not None and attractor.mark.label != text.label
    assert 150 <= opposed <= 220


def test_some_words_stand_between_a_sentiment_and_its_consequence():
    for text in TEXTS["sentiment"]:
        assert text.consequence is not None
        between = text.text[text.span[1] : text.consequence.position].split()
        assert len(between) >= 3
        twin = twin_of(text)
        assert twin.consequence is not None
        assert twin.text[twin.span[1] : twin.consequence.position].split() == between


def test_there_are_forty_capitals():
    assert len(labels("capital")) >= 40


def test_no_texts_is_an_empty_list():
    assert labelled("number", 0, seed=0) == []


def test_an_unknown_variable_is_named_with_the_allowed_ones():
    with pytest.raises(InputError, match="no variable 'sentimnt'; there are number, sentiment, capital"):
        labelled("sentimnt", 1, seed=0)


def test_a_negative_number_of_texts_is_refused():
    with pytest.raises(InputError, match="cannot write -1 texts"):
        labelled("number", -1, seed=0)


def test_a_text_without_a_twin_has_none():
    with pytest.raises(InputError, match="has no twin"):
        twin_of(LabelledText(text="a b", variable="number", label="singular", span=(0, 1)))
