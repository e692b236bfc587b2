"""Laws of interventions: a twin differs in one variable and what follows from it; nothing before depends on it."""

from collections import defaultdict

import pytest

from sae.core.errors import InputError
from sae.microworld import (
    ASPECTS,
    TAXONOMY,
    VARIABLES,
    Document,
    consequence,
    decisions,
    documents,
    intervened,
    label_at,
    labels,
    next_words,
    nouns_of,
    place_of,
    read,
    twin,
    values,
    vocabulary,
)
from sae.microworld.automaton import TEXT_LEVEL
from sae.microworld.labels import own_label
from sae.microworld.lexicon import TABLES

SAMPLE = list(documents(seed=8, n_tokens=40_000))
EVERY = [pytest.param(variable, id=variable) for variable in (*VARIABLES, *ASPECTS)]


def expressing(variable: str, n: int = 60) -> list[tuple[Document, int]]:
    found = [(document, decisions(document, variable)) for document in SAMPLE]
    return [(document, places[0]) for document, places in found if places][:n]


@pytest.mark.parametrize("variable", EVERY)
def test_a_twin_differs_in_the_variables_word_and_the_words_that_follow_from_it(variable: str):
    for document, place in expressing(variable):
        other = twin(document, variable)
        assert len(other.tokens) == len(document.tokens)
        assert label_at(other, place) != label_at(document, place)
        for at, (ours, theirs) in enumerate(zip(document.tokens, other.tokens, strict=True)):
            if ours.word != theirs.word:
                assert place in ours.sources
                assert at >= place
            if place not in ours.sources:
                assert ours.mark == theirs.mark


@pytest.mark.parametrize("variable", EVERY)
def test_a_twins_twin_is_the_text(variable: str):
    for document, _ in expressing(variable):
        assert twin(twin(document, variable), variable) == document


@pytest.mark.parametrize("variable", EVERY)
def test_every_label_can_be_given_and_taken_back(variable: str):
    for document, place in expressing(variable, 15):
        for label in labels(variable)[:6]:
            changed = intervened(document, place, label)
            assert label_at(changed, place) == label
            assert intervened(changed, place, label_at(document, place)) == document


@pytest.mark.parametrize("variable", EVERY)
def test_nothing_before_a_variable_depends_on_it(variable: str):
    for document, place in expressing(variable):
        mark = document.tokens[place].mark
        assert mark is not None
        table, dimension = TABLES[mark.wordclass], mark.instances.index(mark.decides or "")
        probabilities: dict[str, float] = defaultdict(float)
        for word, p in next_words(document.words[:place]).items():
            for label, words in table.by_label(dimension, mark.labels).items():
                probabilities[label] += p * (word in words)
        assert max(probabilities.values()) == pytest.approx(min(probabilities.values())), "labels are equally likely"
        changed = intervened(document, place, labels(variable)[0])
        assert changed.words[:place] == document.words[:place]
        assert changed.nats[: place + 1] == pytest.approx(document.nats[: place + 1])


@pytest.mark.parametrize("variable", EVERY)
def test_every_variable_has_consequences(variable: str):
    with_some = [consequence(document, place) for document, place in expressing(variable)]
    assert sum(later is not None for later in with_some) >= len(with_some) / 5


def test_negation_turns_a_sentiment_round_by_one_word():
    document = read("the soup was really fresh and we will return .")
    other = twin(document, "negation")
    assert other.text == "the soup was scarcely fresh and we will complain ."
    (place,) = decisions(document, "sentiment.food")
    assert (label_at(document, place), label_at(other, place)) == ("positive", "negative")
    assert own_label(other, place, "negative") == "positive"
    assert twin(other, "sentiment").text == "the soup was scarcely stale and we will return ."


def test_each_aspect_has_a_sentiment_of_its_own():
    document = read("the soup was fresh while the waiter was rude so we praised the menu and scolded the crew .")
    known = values(document)[-1]
    assert (known["sentiment.food"], known["sentiment.staff"]) == ("positive", "negative")
    assert twin(document, "sentiment.staff").text == (
        "the soup was fresh while the waiter was polite so we praised the menu and thanked the crew ."
    ).replace("polite", twin(document, "sentiment.staff").words[8])


def test_values_begin_at_the_word_that_decides_and_end_with_the_sentence_except_the_topic():
    document = read("helen works at the opera . the hats are old .")
    known = values(document)
    assert known[0] == {"gender": "female"}
    assert [("topic" in each) for each in known] == [False] * 4 + [True] * 7
    assert known[6] == {"topic": "music"}
    assert known[7] == {"topic": "music", "number": "plural"}
    for text in SAMPLE[:200]:
        for variable in VARIABLES:
            for place in decisions(text, variable):
                mark = text.tokens[place].mark
                assert mark is not None
                assert mark.decides is not None
                assert values(text)[place][mark.decides] == label_at(text, place)
                assert place == 0 or mark.decides not in values(text)[place - 1] or variable not in TEXT_LEVEL


def test_the_taxonomy_has_three_levels_and_every_noun_one_place():
    leaves = [leaf for middles in TAXONOMY.values() for group in middles.values() for leaf in group]
    assert len(leaves) == len(set(leaves)) >= 12
    assert place_of("wolves") == ("living", "animal", "wild_animal") == place_of("wolf")
    assert set(nouns_of("bird")) < set(nouns_of("animal")) < set(nouns_of("living"))
    for kingdom in TAXONOMY:
        for noun in nouns_of(kingdom):
            assert place_of(noun).kingdom == kingdom
            assert noun in vocabulary()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: twin(read("the hats are old ."), "colour"), "no variable 'colour'; there are number, sentiment"),
        (lambda: twin(read("the hats are old ."), "gender"), "does not express gender; it has number, tense"),
        (
            lambda: twin(read("the hats are old ."), "number", "dual"),
            "number has no label 'dual'; it has singular, plu",
        ),
        (lambda: intervened(read("the hats are old ."), 0, "plural"), "'the' at place 0 decides no variable"),
        (
            lambda: intervened(read("the hats are old ."), -3, "plural"),
            "no word at place -3; the text has words 0 to 4",
        ),
        (lambda: consequence(read("the hats are old ."), 9), "no word at place 9"),
        (lambda: label_at(read("the hats are old ."), 0), "'the' at place 0 decides no variable"),
        (lambda: twin(read("it rained all day ."), "number"), "does not express number; it has none"),
        (lambda: place_of("hatt"), "'hatt' is no noun of the taxonomy; did you mean 'hat'"),
        (lambda: nouns_of("fish"), "no class 'fish' in the taxonomy; there are living"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_can(call, message: str):
    with pytest.raises(InputError, match=message):
        call()
