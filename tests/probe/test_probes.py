"""Laws of probing: planted concepts are found, shuffled ones are not, and test texts choose nothing."""

from dataclasses import replace

import numpy as np
import pytest

from sae.core.random import numpy_generator
from sae.core.records import LabelledText
from sae.core.splits import SPLITS
from sae.probe.choose import METHODS, RESIDUAL_METHODS, choose, chosen_answers, shuffled_answers
from sae.probe.claims import Evidence, probe_findings, with_q
from sae.probe.control import matched_latents, rank_among, shuffled_labels
from sae.probe.latent import best_threshold
from sae.probe.logistic import logistic
from sae.probe.sample import Sample, labels_of, sample_of
from sae.probe.score import Answers, accuracy_of, area, balanced_accuracy, mean_accuracy, permutation
from sae.probe.variable import choose_all, selection_of, some_documents

PLANTED = 17
D, D_SAE = 12, 64


def texts(labels: tuple[str, ...], n: int, per_group: int = 1) -> list[LabelledText]:
    return [
        LabelledText(
            text=f"text {i}", variable="colour", label=labels[i % len(labels)], span=(0, 4), group=f"g{i // per_group}"
        )
        for i in range(n)
    ]


def sample(labels: tuple[str, ...] = ("blue", "red"), n: int = 300) -> Sample:
    several = texts(labels, n)
    return sample_of(several, labels_of(several))


def evidence(sample: Sample, seed: int = 0) -> Evidence:
    """The label is written along one direction per label at the span only, and fires one latent per label there."""
    random = numpy_generator(seed, "planted")
    n = len(sample.label)
    directions = np.linalg.qr(random.standard_normal((D, D)))[0][: len(sample.labels)]
    noise = {position: random.standard_normal((n, D)).astype(np.float32) for position in ("span", "consequence")}
    code = {p: (random.random((n, D_SAE)) * (random.random((n, D_SAE)) < 0.3)).astype(np.float32) for p in noise}
    code["span"][:, PLANTED : PLANTED + len(sample.labels)] = 0
    code["span"][np.arange(n), PLANTED + sample.label] = 1 + random.random(n)
    planted = {**noise, "span": noise["span"] + 12 * directions[sample.label].astype(np.float32)}
    return Evidence(sample, "blocks.0.resid_post", "d" * 16, planted, code, None, seed)


@pytest.mark.parametrize("labels", [("blue", "red"), ("blue", "green", "red")])
def test_every_probe_finds_a_planted_concept_at_the_right_position(labels: tuple[str, ...]):
    one = evidence(sample(labels))
    for method in METHODS:
        chosen = choose(one.sample, one.of(method), method)
        assert chosen.position == "span"
        if method != "sparse_1" or len(labels) == 2:
            assert mean_accuracy(chosen_answers(one.sample, chosen, one.of(method))) == 1.0, method


@pytest.mark.parametrize("method", RESIDUAL_METHODS)
def test_shuffled_labels_leave_a_probe_at_chance(method):
    one = evidence(sample(n=600))
    noise = {"span": one.residual["consequence"]}
    chosen = choose(one.sample, noise, method)
    draws = [mean_accuracy(a) for a in shuffled_answers(one.sample, chosen, noise, seed=0, n=20)]
    assert abs(np.mean(draws) - 0.5) < 0.05


def test_the_planted_latents_are_the_best_and_lead_the_selection():
    one = evidence(sample(("blue", "green", "red")))
    selection = selection_of(one, choose_all(one))
    assert [task.latent for task in selection.tasks.values()] == [PLANTED, PLANTED + 1, PLANTED + 2]
    assert all(task.sign == 1 and task.label == target for target, task in selection.tasks.items())
    assert all(task.top_latents[0] == task.latent and len(task.top_latents) == 5 for task in selection.tasks.values())


def test_of_two_labels_the_latent_may_fire_for_either_and_says_for_which():
    one = evidence(sample())
    one.code["span"][:, PLANTED + 1] = 0  # only blue's latent is left
    (task,) = selection_of(one, choose_all(one)).tasks.values()
    assert (task.target, task.latent, task.sign, task.label) == ("red", PLANTED, -1, "blue")
    assert 0 < task.threshold < 1


def test_test_labels_choose_nothing():
    one = evidence(sample(n=400))
    one.code["span"][:] += 0.8 * np.roll(one.code["span"], 7, axis=0)  # hard enough for choices to matter
    test = one.sample.rows("test")
    label = one.sample.label.copy()
    label[test] = numpy_generator(1, "test labels").permutation(label[test])
    other = replace(one, sample=replace(one.sample, label=label))
    first, second = choose_all(one), choose_all(other)
    assert selection_of(one, first) == selection_of(other, second)
    assert all(
        np.array_equal(first[m].rules[t].weight, second[m].rules[t].weight) for m in METHODS for t in one.sample.targets
    )


def test_splits_share_no_document():
    several = texts(("blue", "red"), 300, per_group=3)
    one = sample_of(several, labels_of(several))
    assert all(len(set(one.split[one.document == d])) == 1 for d in np.unique(one.document))
    assert set(one.split) == set(range(len(SPLITS)))


def test_two_labels_pose_one_task_for_the_later_and_more_pose_one_each():
    assert sample(("singular", "plural")).targets == ("singular",)
    assert sample(("a", "b", "c")).targets == ("a", "b", "c")
    assert sample(("a",)).targets == ()
    assert sample(n=6).targets == ()  # too few documents


def test_a_label_with_too_few_documents_has_no_task_but_stays_among_the_others():
    several = texts(("a", "b", "c"), 300)
    rare = [t.model_copy(update={"label": "d"}) for t in several[:3]] + several[3:]
    one = sample_of(rare, labels_of(rare))
    assert one.targets == ("a", "b", "c")
    assert len(one.label) == 300


def test_some_documents_keeps_documents_whole():
    several = texts(("blue", "red"), 90, per_group=3)
    some = some_documents(several, 30, seed=0)
    groups = [text.group for text in some]
    assert len(some) == 30
    assert all(groups.count(g) == 3 for g in groups)


def test_balanced_accuracy_and_area_agree_with_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    random = numpy_generator(0, "scores")
    truth, score = random.random(80) < 0.3, random.integers(0, 9, 80) - 4.0
    assert balanced_accuracy(truth, score > 0) == pytest.approx(balanced_accuracy_score(truth, score > 0))
    assert area(truth, score) == pytest.approx(roc_auc_score(truth, score))


def test_the_threshold_is_the_best_of_all_cuts():
    random = numpy_generator(0, "threshold")
    values, y = random.integers(0, 12, 60).astype(float), random.random(60) < 0.4
    cuts = np.arange(-0.5, 12)
    best = max(float(balanced_accuracy(y, values > cut)) for cut in cuts)
    assert balanced_accuracy(y, values > best_threshold(values, y)) == pytest.approx(best)


def test_a_constant_column_has_no_weight():
    random = numpy_generator(0, "constant")
    x = random.standard_normal((50, 3)).astype(np.float32)
    x[:, 1] = 5.0
    rule = logistic(x, x[:, 0] > 0, 1.0)
    assert rule.weight[1] == 0
    assert np.isfinite(rule.score(x)).all()


def test_a_permutation_moves_whole_documents_and_shuffling_keeps_the_counts():
    document = np.repeat(np.arange(20), 3)
    random = numpy_generator(0, "permutation")
    order = permutation(document, random)
    assert sorted(order) == list(range(60))
    assert all(len(set(document[order][document == d])) == 1 for d in range(20))
    truth = random.random(60) < 0.3
    assert shuffled_labels(truth, document, random).sum() == truth.sum()


def test_p_is_uniform_enough_for_guesses_and_small_for_the_truth():
    random = numpy_generator(0, "p")
    truth = random.random((1, 100)) < 0.5
    document = np.arange(100)
    guesses = [
        accuracy_of(Answers(truth, random.standard_normal((1, 100)), document), seed=0, n_resamples=200).p
        for _ in range(20)
    ]
    right = accuracy_of(Answers(truth, np.where(truth, 1.0, -1.0), document), seed=0)
    assert right.value == right.auc == 1.0
    assert right.p < 0.002
    assert 0.2 < np.mean(guesses) < 0.8


def test_matched_latents_fire_as_often_and_leave_out_the_excluded():
    density = np.array([0.0, 0.1, 0.11, 0.12, 0.5, 0.51, 0.09, 0.1])
    drawn = matched_latents(density, [1, 4], [2], 3, numpy_generator(0, "matched"))
    assert drawn.shape == (3, 2)
    assert set(drawn[:, 0]) == {3, 6, 7}
    assert not set(drawn.flatten()) & {0, 1, 2, 4}
    assert all(a != b for a, b in drawn)
    assert len(matched_latents(density * 0, [1], [], 3, numpy_generator(0, "none"))) == 0


def test_findings_say_everything_and_the_control_is_at_chance():
    one = evidence(sample(("blue", "green", "red"), 450))
    findings = with_q(list(probe_findings(one, choose_all(one))))
    assert len(findings) == len(METHODS) + 3
    assert {f.settings["level"] for f in findings} == {"variable", "label"}
    for finding in findings:
        assert finding.q is not None
        assert finding.p is not None
        assert finding.q >= finding.p
        assert finding.interval is not None
        assert finding.interval.low <= finding.effect <= finding.interval.high
        assert finding.control.interval is not None
    best = next(f for f in findings if f.settings["method"] == "best_latent")
    assert best.effect == 1.0
    assert best.control.effect < 0.65
    assert best.subject.latents == (PLANTED, PLANTED + 1, PLANTED + 2)


def test_the_untrained_dictionary_is_the_control_where_there_is_one():
    one = evidence(sample())
    beside = replace(one, untrained={p: x[:, ::-1].copy() for p, x in one.code.items()})
    best = next(f for f in probe_findings(beside, choose_all(beside)) if f.settings["method"] == "best_latent")
    assert "untrained" in best.control.what
    assert best.control.effect == best.effect == 1.0


def test_a_rank_is_about_the_controls_own_mean():
    controls = np.linspace(4.0, 5.0, 19)
    assert rank_among(7.0, controls) == rank_among(2.0, controls) == 1 / 20
    assert rank_among(4.5, controls) == 1.0
