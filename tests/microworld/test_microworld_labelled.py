"""Laws of labelled texts: twins differ in one variable, spans and consequences are where they say."""

from collections import Counter

import pytest

from sae.core.errors import InputError
from sae.core.records import LabelledText
from sae.microworld import (
    ASPECTS,
    VARIABLES,
    Document,
    decisions,
    label_at,
    labelled,
    labelled_text,
    labels,
    read,
    twin_of,
    values,
)

TEXTS = {variable: labelled(variable, 120, seed=1) for variable in (*VARIABLES, *ASPECTS)}
EVERY = [pytest.param(variable, id=variable) for variable in TEXTS]


def with_twins(variable: str) -> list[LabelledText]:
    return [each for text in TEXTS[variable] for each in (text, twin_of(text))]


def words_after(text: LabelledText) -> str:
    assert text.consequence is not None
    return text.text[text.consequence.position :]


def deciding(text: LabelledText) -> tuple[Document, int]:
    """The text as the parser reads it, and the place of the word at its span."""
    document = read(text.text)
    return document, document.begins.index(text.span[0])


@pytest.mark.parametrize("variable", EVERY)
def test_texts_are_of_the_language_and_express_their_label_at_the_span(variable: str):
    for text in with_twins(variable):
        document, place = deciding(text)
        assert place in decisions(document, variable)
        assert label_at(document, place) == text.label
        assert text.text[slice(*text.span)] == document.words[place]


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
        document, place = deciding(text)
        other, there = deciding(twin_of(text))
        assert there == place
        assert len(other.words) == len(document.words)
        assert twin_of(text).label != text.label
        for ours, theirs in zip(document.tokens, other.tokens, strict=True):
            assert ours.word == theirs.word or place in ours.sources
        assert text.text[: text.span[0]] == twin_of(text).text[: text.span[0]]


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
    assert len({text.text for text in TEXTS[variable]}) == len({text.group for text in TEXTS[variable]}) == 120


@pytest.mark.parametrize("variable", EVERY)
def test_texts_depend_on_the_seed_only(variable: str):
    assert labelled(variable, 20, seed=4) == labelled(variable, 20, seed=4)
    assert labelled(variable, 20, seed=4) != labelled(variable, 20, seed=5)


@pytest.mark.parametrize(("variable", "rival"), [("number", "number.attractor"), ("gender", "gender.other")])
def test_half_of_the_texts_have_a_rival_of_another_label_between(variable: str, rival: str):
    opposed = 0
    for text in TEXTS[variable]:
        document, _ = deciding(text)
        assert text.consequence is not None
        known = values(document)[document.begins.index(text.consequence.position + 1) - 1]
        opposed += known.get(rival, text.label) != text.label
    assert 60 <= opposed <= 100


def test_some_words_stand_between_a_sentiment_and_its_consequence():
    for text in TEXTS["sentiment"]:
        assert text.consequence is not None
        between = text.text[text.span[1] : text.consequence.position].split()
        assert len(between) >= 3
        twin = twin_of(text)
        assert twin.consequence is not None
        assert len(twin.text[twin.span[1] : twin.consequence.position].split()) == len(between)


def test_a_topic_shows_again_in_a_later_sentence():
    for text in TEXTS["topic"]:
        assert text.consequence is not None
        document, place = deciding(text)
        later = document.begins.index(text.consequence.position + 1)
        assert document.tokens[later].sentence > document.tokens[place].sentence


def test_some_sentiments_are_turned_round_by_a_negation_and_aspects_disagree():
    known = [values(read(text.text))[-2] for text in TEXTS["sentiment"]]
    assert 15 <= sum(each.get("negation") == "negated" for each in known) <= 60
    aspects = [{label for name, label in each.items() if name in ASPECTS} for each in known]
    assert sum(len(each) == 2 for each in aspects) >= 5


@pytest.mark.parametrize("variable", EVERY)
def test_any_text_that_expresses_a_variable_is_a_labelled_text(variable: str):
    for text in TEXTS[variable][:20]:
        document, place = deciding(text)
        record = labelled_text(document, variable)
        first = decisions(document, variable)[0]
        assert record.text == text.text
        assert record.label == label_at(document, first)
        assert twin_of(twin_of(record)) == record
        if first == place:
            assert (record.span, record.consequence) == (text.span, text.consequence)


def test_there_are_forty_capitals():
    assert len(labels("capital")) >= 40


def test_no_texts_is_an_empty_list():
    assert labelled("number", 0, seed=0) == []


def test_an_unknown_variable_is_named_with_the_allowed_ones():
    with pytest.raises(
        InputError,
        match=r"no variable 'sentimnt'; there are number, .* topic, tense, .*; did you mean 'sentiment'",
    ):
        labelled("sentimnt", 1, seed=0)


def test_a_negative_number_of_texts_is_refused():
    with pytest.raises(InputError, match="cannot write -1 texts"):
        labelled("number", -1, seed=0)


def test_a_text_without_a_twin_has_none():
    with pytest.raises(InputError, match="has no twin"):
        twin_of(LabelledText(text="a b", variable="number", label="singular", span=(0, 1)))
