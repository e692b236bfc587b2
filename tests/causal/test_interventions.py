"""Laws of ablation and patching: the whole activation is the twin, nothing changes nothing, a planted cause shows."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from sae import microworld
from sae.causal.cases import ablation_cases, patch_cases
from sae.causal.claims import Compared, claim, share_of
from sae.causal.displacement import ablation, direction_patch, latent_patch, region_of, whole_patch
from sae.causal.effect import effects
from sae.causal.interventions import Means, ablations, controls_of, patches
from sae.causal.validate import Subjects, validated
from sae.core.records import LabelledText, Subject, Twin
from sae.dictionary import Dictionary, DictionaryConfig, Relu
from sae.lm.load import LoadedModel
from sae.probe.consequence import label_logits, log_odds, read_site
from sae.probe.prompt import twin_prompt
from sae.probe.selection import TaskSelection, VariableSelection
from sae.probe.variable import HeldOut, held_out_texts

SITE = "blocks.1.resid_post"
LABELS = ("plural", "singular")
DEAD = 0


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    model = microworld.untrained(0).requires_grad_(False).eval()
    return LoadedModel(model, microworld.tokenizer(), "fingerprint", "random")


@pytest.fixture(scope="module")
def held_out(loaded: LoadedModel) -> HeldOut:
    return held_out_texts(loaded, microworld.labelled("number", 60, seed=0), 12, seed=0)


@pytest.fixture(scope="module")
def perfect(loaded: LoadedModel) -> Dictionary:
    """Latents 1 to 2d are the positive and negative parts of every dimension; latent 0 is dead."""
    d = loaded.d_model
    dictionary = Dictionary(DictionaryConfig(d_in=d, d_out=d, d_sae=2 * d + 1, activation=Relu()))
    rows = torch.cat([torch.zeros(1, d), torch.eye(d), -torch.eye(d)])
    with torch.no_grad():
        dictionary.encoder_rows.copy_(rows)
        dictionary.W_dec.copy_(rows)
        dictionary.W_dec[DEAD, 0] = 1.0
    return dictionary


def task(latent: int, top: Sequence[int] = (), target: str = "singular", label: str = "singular") -> TaskSelection:
    return TaskSelection(
        target=target,
        latent=latent,
        sign=1,
        label=label,
        threshold=0.0,
        position="span",
        top_latents=(latent, *top),
        direction_position="span",
        validation={},
    )


def selected(one: TaskSelection) -> VariableSelection:
    return VariableSelection(labels=LABELS, has_consequence=True, tasks={one.target: one})


def twin_log_odds(loaded: LoadedModel, held_out: HeldOut, label: np.ndarray) -> np.ndarray:
    """Log-odds in the twins themselves, read by the model without any edit."""
    logits = []
    for text, prompt in zip(held_out.texts, held_out.prompts, strict=True):
        ids = torch.as_tensor(twin_prompt(loaded, text, prompt).ids).long()[None]
        with torch.no_grad():
            logits.append(loaded(input_ids=ids).logits[0, -1, list(prompt.label_tokens)].double().numpy())
    return log_odds(np.stack(logits), label)


def means(dictionary: Dictionary, controls: Sequence[int] = (5, 6)) -> Means:
    return Means(
        dictionary.W_dec.detach(),
        {"singular": torch.ones(dictionary.d_in)},
        {"singular": np.array(controls, dtype=np.int64)},
    )


def test_patching_the_whole_activation_gives_what_the_twin_says(loaded, held_out, perfect):
    """The texts differ from the span on, so everything before it is shared: nothing of the twin is missing."""
    cases = patch_cases(loaded, perfect, SITE, held_out, selected(task(1)))
    gain = effects(loaded, SITE, cases.prompts, cases.label, [lambda i: whole_patch(cases.regions[i], cases.twins[i])])[
        0
    ]
    before = log_odds(label_logits(loaded, cases.prompts, SITE), cases.label)
    assert np.allclose(before + gain, twin_log_odds(loaded, held_out, cases.label), atol=1e-4)
    assert np.abs(gain).max() > 1e-3


def test_patching_every_latent_of_a_perfect_dictionary_is_patching_everything(loaded, held_out, perfect):
    cases = patch_cases(loaded, perfect, SITE, held_out, selected(task(1)))
    everything = range(1, perfect.d_sae)
    for region, twin in zip(cases.regions, cases.twins, strict=True):
        patched = latent_patch(region, twin, perfect.W_dec.detach(), everything)
        assert torch.allclose(patched, whole_patch(region, twin), atol=1e-5)


def test_patching_along_all_directions_is_patching_everything(loaded, held_out, perfect):
    cases = patch_cases(loaded, perfect, SITE, held_out, selected(task(1)))
    basis = torch.randn(loaded.d_model, loaded.d_model, generator=torch.Generator().manual_seed(0))
    change = direction_patch(cases.regions[0], cases.twins[0], basis)
    assert torch.allclose(change, whole_patch(cases.regions[0], cases.twins[0]), atol=1e-4)


def test_patching_a_text_with_itself_changes_nothing(loaded, held_out, perfect):
    cases = patch_cases(loaded, perfect, SITE, held_out, selected(task(1, (2, 3))))
    itself = cases._replace(twins=cases.regions)
    named, controls = patches(itself, means(perfect))
    gain = effects(loaded, SITE, cases.prompts, cases.label, [*named.values(), *controls])
    assert np.array_equal(gain, np.zeros_like(gain))


def test_ablating_a_dead_latent_changes_nothing(loaded, held_out, perfect):
    cases = ablation_cases(loaded, perfect, SITE, held_out, selected(task(DEAD)))
    best, _ = ablations(cases, means(perfect))
    assert np.array_equal(effects(loaded, SITE, cases.prompts, cases.label, [best])[0], np.zeros(len(cases.prompts)))


def test_ablation_asks_only_of_texts_whose_label_the_latent_fires_for(loaded, held_out, perfect):
    cases = ablation_cases(loaded, perfect, SITE, held_out, selected(task(1, label="plural")))
    assert set(cases.label) == {LABELS.index("plural")}
    assert len(cases.prompts) == (held_out.label == LABELS.index("plural")).sum()


def test_an_ablated_latent_is_gone_and_the_rest_stays(loaded, held_out, perfect):
    prompt, x = held_out.prompts[0], read_site(loaded, SITE, held_out.prompts[:1])[0]
    region = region_of(perfect, prompt, x)
    latent = int(region.code[-1].argmax())
    after = perfect.encode(region.x + ablation(region, perfect.W_dec.detach(), [latent])).dense()
    expected = region.code.clone()
    expected[:, latent] = 0
    assert torch.allclose(after, expected, atol=1e-5)


def test_a_planted_cause_has_the_effect_that_norm_and_head_say(loaded):
    """One latent always fires with 2 along the words of the own label, at the last block."""
    site, d = "blocks.3.resid_post", loaded.d_model
    several = held_out_texts(loaded, microworld.labelled("number", 60, seed=0), 12, seed=0)
    singular = several.only(np.flatnonzero(several.label == 1).tolist()[:1])
    head, norm = loaded.model.get_submodule("lm_head"), loaded.model.get_submodule("model.norm")
    tokens = list(singular.prompts[0].label_tokens)
    rows = loaded.model.get_parameter("lm_head.weight")
    planted = Dictionary(DictionaryConfig(d_in=d, d_out=d, d_sae=2, activation=Relu()))
    with torch.no_grad():
        planted.b_enc[0] = 2.0
        planted.W_dec[0] = torch.nn.functional.normalize(rows[tokens[1]] - rows[tokens[0]], dim=0)
    cases = ablation_cases(loaded, planted, site, singular, selected(task(0)))
    best, _ = ablations(cases, means(planted, ()))
    change = effects(loaded, site, cases.prompts, cases.label, [best])[0, 0]
    x = read_site(loaded, site, cases.prompts)[0][-1]
    both = [head(norm(y))[tokens].detach().double().numpy() for y in (x, x - 2 * planted.W_dec[0].detach())]
    before, after = log_odds(np.stack(both), np.array([1, 1]))
    assert change == pytest.approx(after - before, abs=1e-4)
    assert change < 0  # the label is less likely without its latent


def test_a_shorter_twin_is_patched_as_far_as_it_goes(loaded, held_out, perfect):
    text = held_out.texts[0]
    assert text.twin is not None
    short = Twin(text=text.twin.text[: text.twin.span[1]], label=text.twin.label, span=text.twin.span)
    cut = held_out.only([0])._replace(texts=[text.model_copy(update={"twin": short})])
    cases = patch_cases(loaded, perfect, SITE, cut, selected(task(1)))
    change = whole_patch(cases.regions[0], cases.twins[0])
    assert len(cases.twins[0].x) == 1
    assert change[0].abs().max() > 0
    assert torch.equal(change[1:], torch.zeros_like(change[1:]))


def test_controls_are_never_among_the_best(perfect):
    density = np.linspace(0.01, 0.2, perfect.d_sae)
    chosen = selected(task(10, (11, 12, 13, 14)))
    controls = controls_of(chosen, density, 20, 0, "number")["singular"]
    assert len(set(controls.tolist())) == 20
    assert not set(controls.tolist()) & {10, 11, 12, 13, 14}
    assert abs(controls - 10).max() <= 25


def test_validation_makes_all_its_findings(loaded, held_out, perfect):
    best = task(1, (2, 3, 4, 5))
    subjects = Subjects(loaded, perfect, SITE, "d" * 16, 0)
    findings = list(validated(subjects, "number", selected(best), held_out, means(perfect, range(20, 40))))
    assert [(f.kind, f.settings["method"]) for f in findings] == [
        ("ablation", "best_latent"),
        ("patching", "best_latent"),
        ("patching", "sparse_5"),
        ("patching", "difference_of_means"),
        ("patching", "whole_activation"),
    ]
    assert findings[-1].settings["share_of_whole"] in (1.0, None)
    assert all(f.interval is not None and f.interval.low <= f.effect <= f.interval.high for f in findings)
    assert all(f.control.interval is not None and f.p is not None for f in findings)


def test_with_many_labels_both_labels_latents_are_patched_and_single_labels_are_ablated(loaded, perfect):
    texts = microworld.labelled("capital", 160, seed=0)
    held_out = held_out_texts(loaded, texts, 40, seed=0)
    labels = tuple(sorted({text.label for text in texts}))
    tasks = {label: task(1 + i, target=label, label=label) for i, label in enumerate(labels)}
    chosen = VariableSelection(labels=labels, has_consequence=True, tasks=tasks)
    cases = patch_cases(loaded, perfect, SITE, held_out, chosen)
    assert all(
        {t.target for t in several} == {text.label, text.twin.label}
        for several, text in zip(cases.tasks, held_out.texts, strict=True)
        if text.twin
    )
    controls = {label: np.array([100, 101]) for label in labels}
    directions = {label: torch.eye(loaded.d_model)[i] for i, label in enumerate(labels)}
    findings = list(
        validated(
            Subjects(loaded, perfect, SITE, "d" * 16, 0),
            "capital",
            chosen,
            held_out,
            Means(perfect.W_dec.detach(), directions, controls),
        )
    )
    single = [f for f in findings if f.settings["level"] == "label"]
    assert all(f.kind == "ablation" and f.n_documents >= 2 and len(f.subject.latents) == 1 for f in single)


def test_a_variable_without_twins_is_ablated_only(loaded, held_out, perfect):
    bare: list[LabelledText] = [text.model_copy(update={"twin": None}) for text in held_out.texts]
    subjects = Subjects(loaded, perfect, SITE, "d" * 16, 0)
    findings = validated(subjects, "number", selected(task(1)), held_out._replace(texts=bare), means(perfect))
    assert {f.kind for f in findings} == {"ablation"}


def test_a_claim_without_controls_has_no_p():
    tested = Compared(np.array([1.0, 2.0]), np.zeros((0, 2)), np.array([0, 1]))
    finding = claim("ablation", "v", Subject(kind="latent", site=SITE), tested, {}, 0)
    assert finding.p is None
    assert finding.control.effect == 0


def test_a_share_is_of_an_effect_above_zero_only():
    half, whole = (Compared(np.full(4, x), np.zeros((0, 4)), np.arange(4)) for x in (0.5, 1.0))
    noise = Compared(np.array([1.0, -1.0, 1.0, -0.9]), np.zeros((0, 4)), np.arange(4))
    assert share_of(half, whole, 0) == 0.5
    assert share_of(half, noise, 0) is None
