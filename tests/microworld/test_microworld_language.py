"""Laws of the generator: it samples what it states, and reading a text recovers how it was written."""

import math
import time
from collections import Counter, defaultdict

import pytest
from scipy.stats import chi2

from sae.core.errors import InputError
from sae.microworld import VARIABLES, documents, intervene, next_words, read, sentence, stream, vocabulary
from sae.microworld.automaton import language
from sae.microworld.generate import MAX_SENTENCES, character_offsets
from sae.microworld.lexicon import LABELLED

SAMPLE = list(documents(seed=3, n_tokens=100_000))


def chi_square_p(observed: Counter[str], expected: dict[str, float]) -> float:
    n = sum(observed.values())
    statistic = sum((observed[word] - n * p) ** 2 / (n * p) for word, p in expected.items())
    return float(chi2.sf(statistic, len(expected) - 1))


@pytest.fixture(scope="module")
def followers() -> dict[tuple[str, ...], Counter[str]]:
    """What follows each beginning of a sentence, over the sample."""
    counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for document in SAMPLE:
        for written in document.sentences:
            for position, word in enumerate(written.words):
                counts[written.words[:position]][word] += 1
    return counts


def test_the_language_has_enough_words_and_frames():
    assert len(vocabulary()) - 3 >= 200


def test_sampled_frequencies_match_the_stated_distribution(followers: dict[tuple[str, ...], Counter[str]]):
    tested = {
        prefix: observed
        for prefix, observed in followers.items()
        if len(next_words(prefix)) > 1 and sum(observed.values()) * min(next_words(prefix).values()) >= 5
    }
    assert len(tested) > 50
    p = [chi_square_p(observed, next_words(prefix)) for prefix, observed in tested.items()]
    assert min(p) > 1e-3 / len(p), "after Bonferroni's correction, no prefix is sampled from another distribution"


def test_no_word_is_sampled_that_is_not_stated(followers: dict[tuple[str, ...], Counter[str]]):
    for prefix, observed in followers.items():
        assert set(observed) <= set(next_words(prefix))


def test_every_state_is_a_distribution_that_words_determine():
    for state in language():
        assert math.isclose(sum(option.probability for option in state.options.values()), 1, rel_tol=1e-9)
        assert len(set(state.words)) == len(state.words)


def test_nats_are_those_of_the_next_word_distribution():
    for document in SAMPLE[:50]:
        for position, (word, nats) in enumerate(zip(document.words, document.nats, strict=True)):
            assert math.isclose(nats, -math.log(next_words(document.words[:position])[word]), abs_tol=1e-12)


def test_mean_nats_equal_the_entropy_computed_from_the_distributions():
    exact, sampled = [], []
    for document in SAMPLE[:600]:
        for position in range(len(document.words)):
            exact.append(-sum(p * math.log(p) for p in next_words(document.words[:position]).values()))
        sampled.extend(document.nats)
    assert sum(sampled) / len(sampled) == pytest.approx(sum(exact) / len(exact), rel=0.02)


def test_reading_is_the_inverse_of_writing():
    for document in SAMPLE[:200]:
        assert tuple(word for each in document.sentences for word in each.words) == document.words
        assert 1 <= len(document.sentences) <= MAX_SENTENCES
        assert document.text.split(" ") == list(document.words)


def test_documents_depend_on_seed_and_name_only():
    first, again = (list(documents(seed=5, n_tokens=500)) for _ in range(2))
    assert first == again
    assert first != list(documents(seed=6, n_tokens=500))
    assert first != list(documents(seed=5, n_tokens=500, name="held-out"))
    assert list(documents(seed=5, n_tokens=300)) == first[: len(list(documents(seed=5, n_tokens=300)))]


def test_documents_hold_the_tokens_asked_for():
    n_words = [len(document.words) for document in documents(seed=0, n_tokens=2000)]
    assert sum(n_words[:-1]) < 2000 <= sum(n_words)


def test_documents_are_written_fast():
    began = time.process_time()
    n_words = sum(len(document.words) for document in documents(seed=0, n_tokens=100_000))
    assert n_words / (time.process_time() - began) > 100_000, "millions a second without type checks"


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_intervention_changes_only_the_variable_and_its_consequences(variable: str):
    rng, seen = stream("test", 0), 0
    while seen < 100:
        original = sentence(rng)
        decided = original.decided(variable)
        if decided is None:
            continue
        seen += 1
        for label in tuple(LABELLED[decided.mark.wordclass])[:3]:
            changed = intervene(original, variable, label)
            marked = {place.position for place in original.marks if place.mark.variable == variable}
            differing = {i for i, (a, b) in enumerate(zip(original.words, changed.words, strict=True)) if a != b}
            assert differing == (set() if label == decided.mark.label else marked)
            assert intervene(changed, variable, decided.mark.label) == original


@pytest.mark.parametrize("variable", ["number", "sentiment", "capital", "attractor"])
def test_nothing_before_a_variable_depends_on_it(variable: str):
    rng, seen = stream("test", 1), 0
    while seen < 100:
        original = sentence(rng)
        decided = original.decided(variable)
        if decided is None:
            continue
        seen += 1
        probabilities: dict[str, float] = defaultdict(float)
        for word, p in next_words(original.words[: decided.position]).items():
            for label, words in LABELLED[decided.mark.wordclass].items():
                probabilities[label] += p * (word in words)
        assert max(probabilities.values()) == pytest.approx(min(probabilities.values())), "labels are equally likely"
        changed = intervene(original, variable, next(iter(LABELLED[decided.mark.wordclass])))
        assert changed.words[: decided.position] == original.words[: decided.position]
        assert changed.nats[: decided.position + 1] == pytest.approx(original.nats[: decided.position + 1])


def test_labels_of_a_class_are_aligned_and_disjoint():
    for name, labels in LABELLED.items():
        words = [word for each in labels.values() for word in each]
        assert len({len(each) for each in labels.values()}) == 1, name
        assert len(set(words)) == len(words), name


def test_character_offsets_are_those_of_the_text():
    words = SAMPLE[0].words
    text = " ".join(words)
    for begin, word in zip(character_offsets(words), words, strict=True):
        assert text[begin : begin + len(word)] == word


@pytest.mark.parametrize("text", ["the banana is", "the key are old .", "the key is old"])
def test_reading_what_is_not_of_the_language_names_the_place(text: str):
    with pytest.raises(InputError, match=r"cannot stand at word|ends in the middle"):
        read(text.split(" "))


def test_the_distribution_after_an_impossible_prefix_is_refused():
    with pytest.raises(InputError, match=r"'are' cannot stand at word 2 .* there can: "):
        next_words(["the", "key", "are"])
