"""Laws of steering: no dose does nothing, the unembedding's own direction does most, equal cost is equal."""

import numpy as np
import pytest
import torch

from sae import microworld
from sae.lm.load import LoadedModel
from sae.probe.consequence import label_logits, log_odds
from sae.probe.selection import TaskSelection, VariableSelection
from sae.probe.variable import held_out_texts
from sae.steer.claims import METHODS, steering_findings
from sae.steer.cost import doses_at_cost, neutral_documents, push_costs
from sae.steer.dose_response import Bench, Measured, Target, random_costs, random_responses, responses, texts_of
from sae.steer.push import pushed_logits, random_directions

SITE = "blocks.3.resid_post"
LABELS = ("negative", "positive")
DOSES = (0.5, 1.0)
BUDGET = 0.02


@pytest.fixture(scope="module")
def bench() -> Bench:
    model = microworld.untrained(0).requires_grad_(False).eval()
    loaded = LoadedModel(model, microworld.tokenizer(), "fingerprint", "random")
    documents = [np.array(loaded.tokenizer(d.text)["input_ids"]) for d in microworld.documents(0, 1200)]
    some = neutral_documents(documents, 12, 24, seed=0)
    return Bench(loaded, SITE, 1.0, some[:6], some[6:], random_directions(loaded.d_model, 20, seed=0), 0)


@pytest.fixture(scope="module")
def measured(bench: Bench) -> list[Measured]:
    """The direction from the words of one label to those of the other, and its opposite."""
    held_out = held_out_texts(bench.loaded, microworld.labelled("sentiment", 60, seed=0), 12, seed=0)
    texts = texts_of(bench, held_out.prompts, held_out.document)
    null = random_responses(bench, texts, DOSES, random_costs(bench, DOSES))
    rows = bench.loaded.model.get_parameter("lm_head.weight")
    tokens = torch.tensor([prompt.label_tokens for prompt in held_out.prompts])
    towards = torch.nn.functional.normalize((rows[tokens[:, 1]] - rows[tokens[:, 0]]).mean(0), dim=0)
    target = Target("positive", 1, torch.stack([towards, -towards]))
    return responses(bench, texts, target, tuple(METHODS), null, BUDGET)


def test_a_dose_of_zero_does_nothing_and_costs_nothing(bench: Bench):
    prompts = held_out_texts(bench.loaded, microworld.labelled("number", 40, seed=0), 6, seed=0).prompts
    nothing = torch.zeros(2, bench.loaded.d_model)
    before = label_logits(bench.loaded, prompts, SITE)
    assert np.array_equal(pushed_logits(bench.loaded, SITE, prompts, nothing), np.stack([before, before]))
    assert np.allclose(push_costs(bench.loaded, SITE, bench.test, nothing).nats, 0, atol=1e-4)


def test_at_the_last_block_the_effect_is_what_norm_and_head_say(bench: Bench):
    prompts = held_out_texts(bench.loaded, microworld.labelled("number", 40, seed=0), 6, seed=0).prompts
    vector = torch.randn(1, bench.loaded.d_model, generator=torch.Generator().manual_seed(0))
    after = pushed_logits(bench.loaded, SITE, prompts, vector)[0]
    from sae.probe.consequence import read_site

    norm, head = (bench.loaded.model.get_submodule(name) for name in ("model.norm", "lm_head"))
    for prompt, x, row in zip(prompts, read_site(bench.loaded, SITE, prompts), after, strict=True):
        expected = head(norm(x[-1] + vector[0]))[list(prompt.label_tokens)]
        assert np.allclose(row, expected.detach().numpy(), atol=1e-4)


def test_costs_do_not_depend_on_batches_and_are_not_negative(bench: Bench):
    vectors = random_directions(bench.loaded.d_model, 3, seed=1) * 2
    together = push_costs(bench.loaded, SITE, bench.test, vectors)
    alone = [push_costs(bench.loaded, SITE, [ids], vectors[:1]).nats[0, 0] for ids in bench.test]
    assert np.allclose(together.nats[0], alone, rtol=1e-3, atol=1e-4)
    assert (together.nats > 0).all()
    assert together.n_tokens.tolist() == [len(ids) for ids in bench.test]


def test_special_tokens_are_not_pushed(bench: Bench):
    """At the site of a text that is BOS alone, nothing happens."""
    bos = np.array([bench.loaded.tokenizer.bos_token_id])
    vectors = random_directions(bench.loaded.d_model, 2, seed=1) * 5
    assert np.allclose(push_costs(bench.loaded, SITE, [bos], vectors).nats, 0, atol=1e-5)


def test_doses_at_cost_find_the_budget_and_never_exceed_it():
    slopes = np.array([0.1, 1.0, 100.0])
    doses = doses_at_cost(lambda dose: slopes * dose**2, 3, budget=0.5, most=2.0)
    assert doses[0] == 2.0
    assert np.allclose(doses[1:], np.sqrt(0.5 / slopes[1:]), atol=2 / 64)
    assert (slopes * doses**2 <= 0.5).all()


def test_pushing_along_the_words_own_direction_beats_random_ones_and_grows_with_dose(measured: list[Measured]):
    towards = [m.response for m in measured if m.response.direction == "best latent"]
    fixed = [r for r in towards if not r.at_equal_cost]
    assert [r.dose for r in fixed] == list(DOSES)
    assert 0 < fixed[0].effect < fixed[1].effect
    assert fixed[1].effect > fixed[1].random_high
    assert fixed[1].p == pytest.approx(1 / 21)
    assert fixed[0].kl_nats < fixed[1].kl_nats


def test_the_opposite_direction_does_the_opposite(measured: list[Measured]):
    by = {(m.response.direction, m.response.dose): m.response.effect for m in measured if not m.response.at_equal_cost}
    assert by["difference of means", 1.0] < 0 < by["best latent", 1.0]


def test_the_interval_holds_the_effect_and_equal_cost_spends_the_budget(measured: list[Measured]):
    for response in (m.response for m in measured):
        assert response.low <= response.effect <= response.high
        assert response.random_low <= response.random_mean <= response.random_high
        if response.at_equal_cost and response.dose < max(DOSES):
            assert response.kl_nats == pytest.approx(BUDGET, rel=0.5)  # budget of validation, cost of test


def test_findings_have_one_headline_per_direction(measured: list[Measured]):
    task = TaskSelection(
        target="positive",
        latent=3,
        sign=-1,
        label="negative",
        threshold=0.1,
        position="span",
        top_latents=(3, 4),
        direction_position="span",
        validation={"best_latent": 0.9},
    )
    chosen = VariableSelection(labels=LABELS, has_consequence=True, tasks={"positive": task})
    findings = list(steering_findings("sentiment", chosen, measured, SITE, "d" * 16, 0))
    headlines = [f for f in findings if f.settings["level"] == "variable"]
    assert len(findings) == len(METHODS) * (len(DOSES) + 1)
    assert {f.settings["method"] for f in headlines} == set(METHODS.values())
    assert all(f.settings["at_equal_cost"] for f in headlines)
    assert {f.subject.latents for f in findings} == {(3,), ()}
    assert "against the best latent" in next(f.subject.name for f in findings if f.subject.latents)


def test_several_targets_share_a_headline_that_is_their_mean(measured: list[Measured]):
    def task(target: str) -> TaskSelection:
        return TaskSelection(
            target=target,
            latent=len(target),
            sign=1,
            label=target,
            threshold=0.1,
            position="span",
            top_latents=(1,),
            direction_position="span",
            validation={"best_latent": 0.9},
        )

    other = [m._replace(response=m.response.model_copy(update={"target": "c"})) for m in measured]
    chosen = VariableSelection(
        labels=("c", "positive", "x"), has_consequence=True, tasks={t: task(t) for t in ("positive", "c")}
    )
    findings = list(steering_findings("sentiment", chosen, [*measured, *other], SITE, "d" * 16, 0))
    headlines = [f for f in findings if f.settings["level"] == "variable"]
    equal = [m.response.effect for m in measured if m.response.at_equal_cost]
    assert [f.effect for f in headlines] == pytest.approx(equal)
    assert all("dose" not in f.settings for f in headlines)


def test_log_odds_of_two_labels_are_a_difference_of_logits():
    logits = np.array([[1.0, 3.0]])
    assert log_odds(logits, np.array([1]))[0] == pytest.approx(2.0)
