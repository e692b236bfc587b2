"""Laws of the generator: it samples what it states, and reading a text recovers how it was written."""

import math
import time
from collections import Counter, defaultdict
from itertools import combinations, pairwise

import pytest
import torch
from scipy.stats import chi2

from sae.core.errors import InputError
from sae.microworld import document as one_document
from sae.microworld import documents, judge, label_at, next_words, read, stream, values, vocabulary
from sae.microworld.automaton import START, StateId, state, states
from sae.microworld.frames import FAMILIES
from sae.microworld.generate import MAX_SENTENCES
from sae.microworld.lexicon import LABELS, TABLES, VARIABLES
from sae.microworld.targets import next_word_targets
from sae.microworld.taxonomy import NOUNS

SAMPLE = list(documents(seed=3, n_tokens=100_000))


def chi_square_p(observed: Counter[str], expected: dict[str, float]) -> float:
    n = sum(observed.values())
    statistic = sum((observed[word] - n * p) ** 2 / (n * p) for word, p in expected.items())
    return float(chi2.sf(statistic, len(expected) - 1))


@pytest.fixture(scope="module")
def followers() -> dict[tuple[str, ...], Counter[str]]:
    """What follows each beginning of a first sentence, and of a later one in a text that has no topic yet."""
    counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for document in SAMPLE:
        known = values(document)
        begin = 0
        for place, token in enumerate(document.tokens):
            if place and token.sentence != document.tokens[place - 1].sentence:
                begin = place
            if begin and "topic" in known[begin - 1]:
                break
            counts[document.words[begin:place]][token.word] += 1
    return counts


def test_the_language_has_enough_words_and_frames():
    assert len(vocabulary()) - 3 >= 600
    assert sum(len(family) for _, family in FAMILIES) >= 10


def test_sampled_frequencies_match_the_stated_distribution(followers: dict[tuple[str, ...], Counter[str]]):
    tested = {
        prefix: observed
        for prefix, observed in followers.items()
        if len(next_words(prefix)) > 1 and sum(observed.values()) * min(next_words(prefix).values()) >= 5
    }
    assert len(tested) > 30
    p = [chi_square_p(observed, next_words(prefix)) for prefix, observed in tested.items()]
    assert min(p) > 1e-3 / len(p), "after Bonferroni's correction, no prefix is sampled from another distribution"


def test_sampled_frequencies_match_in_every_state_whatever_led_there():
    counts: dict[StateId, Counter[str]] = defaultdict(Counter)
    for document in SAMPLE:
        at = START
        for word in document.words:
            counts[at][word] += 1
            at = state(at).by_word[word].target
    stated = {at: {option.word: option.probability for option in state(at).options} for at in counts}
    tested = [at for at in counts if len(stated[at]) > 1 and counts[at].total() * min(stated[at].values()) >= 5]
    assert len(tested) > 200
    p = [chi_square_p(counts[at], stated[at]) for at in tested]
    assert min(p) > 1e-3 / len(p)
    assert 0.4 < sum(p) / len(p) < 0.6, "p values are uniform where the statement is true"


def test_no_word_is_sampled_that_is_not_stated(followers: dict[tuple[str, ...], Counter[str]]):
    for prefix, observed in followers.items():
        assert set(observed) <= set(next_words(prefix))


def test_the_topic_of_a_text_is_that_of_all_its_topical_words():
    following: Counter[tuple[str, str]] = Counter()
    for document in SAMPLE:
        topical = [token.mark for token in document.tokens if token.mark and "topic" in token.mark.instances]
        assert len({mark.labels for mark in topical}) <= 1
        following.update((first.labels[0], then.wordclass) for first, then in pairwise(topical))
    assert {label for label, _ in following} == set(LABELS["topic"])


def test_every_state_is_a_distribution_that_words_determine():
    for _, here in states():
        assert math.isclose(sum(option.probability for option in here.options), 1, rel_tol=1e-9)
        assert len(here.by_word) == len(here.options)


def test_nats_are_those_of_the_next_word_distribution():
    for document in SAMPLE[:50]:
        for position, (word, nats) in enumerate(zip(document.words, document.nats, strict=True)):
            assert math.isclose(nats, -math.log(next_words(document.words[:position])[word]), abs_tol=1e-12)


def test_a_models_targets_are_the_next_word_distributions():
    ids, some = vocabulary(), SAMPLE[:6]
    targets = next_word_targets(some)
    assert targets.shape == (6, max(len(document.words) for document in some), len(ids))
    for row, document in zip(targets, some, strict=True):
        assert not row[len(document.words) :].any()
        for place in range(len(document.words)):
            stated = torch.zeros(len(ids))
            for word, p in next_words(document.words[:place]).items():
                stated[ids[word]] = p
            assert torch.equal(row[place], stated)


def test_mean_nats_equal_the_entropy_computed_from_the_distributions():
    exact, sampled = [], []
    for document in SAMPLE[:600]:
        for position in range(len(document.words)):
            exact.append(-sum(p * math.log(p) for p in next_words(document.words[:position]).values()))
        sampled.extend(document.nats)
    assert sum(sampled) / len(sampled) == pytest.approx(sum(exact) / len(exact), rel=0.02)


def test_variables_are_independent_of_each_other():
    """Every pair of labels that a sentence decides is as frequent as every other."""
    pairs: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for document in SAMPLE:
        decided: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for place, token in enumerate(document.tokens):
            if token.mark is not None and token.mark.decides not in (None, "capital"):
                decided[token.sentence].append((token.mark.decides, label_at(document, place)))
        for one, other in (pair for several in decided.values() for pair in combinations(several, 2)):
            pairs[one[0], other[0]][one[1], other[1]] += 1
    tested = {names: counts for names, counts in pairs.items() if counts.total() >= 200}
    assert {("number", "number.attractor"), ("number", "tense"), ("gender", "gender.other")} <= set(tested)
    assert {("negation", "sentiment.food"), ("sentiment.food", "sentiment.staff")} <= set(tested)
    for names, counts in tested.items():
        expected = _uniform(names)
        assert chi_square_p(Counter({f"{a}/{b}": n for (a, b), n in counts.items()}), expected) > 1e-4, names


def _uniform(names: tuple[str, str]) -> dict[str, float]:
    one, other = (LABELS[name.partition(".")[0]] for name in names)
    return {f"{a}/{b}": 1 / len(one) / len(other) for a in one for b in other}


def test_parsing_is_the_inverse_of_generating():
    for document in SAMPLE[:1000]:
        assert read(document.text) == document
        assert read(document.words) == document
        assert 1 <= document.tokens[-1].sentence + 1 <= MAX_SENTENCES


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
    list(documents(seed=0, n_tokens=50_000))
    began = time.process_time()
    n_words = sum(len(document.words) for document in documents(seed=0, n_tokens=100_000))
    assert n_words / (time.process_time() - began) > 50_000, "several times as fast without type checks"


def test_words_of_a_table_are_aligned_and_those_of_a_deciding_word_disjoint():
    for name, table in TABLES.items():
        assert len({len(words) for words in table.words.values()}) == 1, name
        assert set(table.dimensions) <= set(VARIABLES)
        if len(table.dimensions) == 1 and name not in ("drink", "dish"):
            words = [word for row in table.words.values() for word in row]
            assert len(set(words)) == len(words), name


def test_words_begin_where_the_document_says():
    document = SAMPLE[0]
    for begin, word in zip(document.begins, document.words, strict=True):
        assert document.text[begin : begin + len(word)] == word


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the banana is", "'banana' cannot stand at word 1 after 'the'; there can: "),
        ("the hats are", "ends in the middle of a sentence"),
        ("the hats near the bed is old .", "'is' would follow if number were singular, but it is plural"),
        ("the soup was not stale and we will complain .", "would follow if negation were affirmed"),
        ("", "the text is empty; a text has 1 to 6 sentences"),
        ("a" * 2_000_000, r"'aaaa.{0,60}…' cannot stand at word 0"),
        (" ".join(["the hats are old ."] * 7), "has 7 sentences"),
    ],
)
def test_a_text_outside_the_language_is_refused_with_the_place_and_what_is_allowed(text: str, message: str):
    with pytest.raises(InputError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("the hats near the bed is old .", ["number"]),
        ("yesterday the hats are old .", ["tense"]),
        ("anna lost his wallet .", ["gender"]),
        ("the capital of france is rome .", ["capital"]),
        ("the soup was fresh and we will complain .", ["sentiment"]),
        ("helen works at the opera . the singer remembered the trial .", ["topic"]),
        ("the hats near the bed is old . anna lost his wallet .", ["number", "gender"]),
        ("the hats near the opera are old .", [None]),
        ("the soup was fresh and we will", []),
        ("the soup was fresh and we will return .", []),
    ],
)
def test_the_judge_names_what_a_text_contradicts_and_reads_on(text: str, variables: list[str | None]):
    reading = judge(text)
    assert [fault.variable for fault in reading.faults] == variables
    assert reading.grammatical == (not variables)
    assert reading.complete == (text.endswith(".") and None not in variables)
    for fault in reading.faults:
        assert text.split()[fault.place] == fault.word


@pytest.mark.parametrize("n_sentences", [-1, 0, 7])
def test_a_document_has_one_to_six_sentences(n_sentences: int):
    with pytest.raises(InputError, match=f"cannot have {n_sentences} sentences; it has 1 to 6"):
        one_document(stream("test", 0), n_sentences)


def test_every_leaf_of_the_taxonomy_has_followers_of_its_own():
    """A verb or adjective, in any form, that comes after the nouns of no other leaf."""
    followers: dict[str, set[str]] = {}
    for leaf, pairs in NOUNS.items():
        if leaf not in ("drink", "dish"):
            one, many = pairs[0]
            after = [("the", one), ("the", many), ("the", one, "is"), ("the", many, "are")]
            followers[leaf] = {word for prefix in after for word in _next(prefix)}
    for leaf, own in followers.items():
        others = set[str]().union(*(words for other, words in followers.items() if other != leaf))
        assert len(own - others) >= 2, leaf


def _next(prefix: tuple[str, ...]) -> dict[str, float]:
    try:
        return next_words(prefix)
    except InputError:  # "the bird is" cannot be said
        return {}


def test_the_distribution_after_an_impossible_prefix_is_refused():
    with pytest.raises(InputError, match=r"'are' cannot stand at word 2 .* there can: "):
        next_words(["the", "cup", "are"])
