"""Laws of reading what a model says next: padding does not matter, no push changes nothing, all edits are pushes."""

import numpy as np
import pytest
import torch

from sae import microworld
from sae.core.errors import InputError
from sae.core.records import Consequence, LabelledText
from sae.core.splits import LABELLED, split_of
from sae.dictionary import Dictionary, DictionaryConfig, TopK
from sae.intervention import at, set_latents
from sae.lm.hooks import editing, reading
from sae.lm.load import LoadedModel
from sae.probe.consequence import label_logits, log_odds, read_site
from sae.probe.features import residual_features
from sae.probe.prompt import Prompt, by_length, prompts_of, twin_prompt
from sae.probe.variable import held_out_texts

SITE = "blocks.1.resid_post"
TEXTS = microworld.labelled("number", 40, seed=0)
LABELS = ("plural", "singular")


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    model = microworld.untrained(0).requires_grad_(False).eval()
    return LoadedModel(model, microworld.tokenizer(), "fingerprint", "random")


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[Prompt]:
    return prompts_of(loaded, TEXTS, LABELS).prompts


def test_a_prompt_ends_where_the_consequence_is_predicted(loaded: LoadedModel, prompts: list[Prompt]):
    for text, prompt in zip(TEXTS, prompts, strict=True):
        assert text.consequence is not None
        said = loaded.tokenizer.decode(prompt.ids, skip_special_tokens=True)
        assert said == text.text[: text.consequence.position]
        words = [text.consequence.tokens[label].strip() for label in LABELS]
        assert [loaded.tokenizer.decode([t]).strip() for t in prompt.label_tokens] == words
        assert loaded.tokenizer.decode([int(prompt.ids[prompt.span_last])]) == text.text[slice(*text.span)].split()[-1]


def test_padding_changes_nothing(loaded: LoadedModel, prompts: list[Prompt]):
    together, x = label_logits(loaded, prompts, SITE), read_site(loaded, SITE, prompts)
    for i in (0, 7, 20):
        ids = torch.as_tensor(prompts[i].ids).long()[None]
        with reading(loaded, [SITE], stop=False) as captured:
            logits = loaded(input_ids=ids).logits[0, -1]
        assert torch.allclose(captured[SITE][0], x[i], atol=1e-5)
        assert np.allclose(logits[list(prompts[i].label_tokens)].numpy(), together[i], atol=1e-4)


def test_a_displacement_of_zero_changes_nothing(loaded: LoadedModel, prompts: list[Prompt]):
    still = label_logits(loaded, prompts, SITE, lambda i: torch.zeros(len(prompts[i].ids), loaded.d_model))
    assert np.array_equal(still, label_logits(loaded, prompts, SITE))


def test_setting_a_latent_is_a_displacement_known_before_the_run(loaded: LoadedModel, prompts: list[Prompt]):
    dictionary = random_dictionary(loaded.d_model)
    x = read_site(loaded, SITE, prompts)
    codes = [dictionary.encode(one).dense().detach() for one in x]
    latent = int(codes[3][-1].argmax())

    def removed(i: int) -> torch.Tensor:
        change = -codes[i][:, [latent]] @ dictionary.W_dec[[latent]].detach()
        change[: prompts[i].span_last] = 0
        return change

    ids = torch.as_tensor(prompts[3].ids).long()[None]
    mask = torch.arange(ids.shape[1])[None] >= prompts[3].span_last
    with torch.no_grad(), editing(loaded, {SITE: set_latents(dictionary, {latent: 0.0}, at(mask))}):
        expected = loaded(input_ids=ids).logits[0, -1, list(prompts[3].label_tokens)]
    assert np.allclose(label_logits(loaded, prompts, SITE, removed)[3], expected.numpy(), atol=1e-4)


def test_log_odds_are_those_of_the_label_against_the_others():
    p = np.array([[0.2, 0.3, 0.1], [0.5, 0.25, 0.0]])
    with np.errstate(divide="ignore"):
        odds = log_odds(np.log(p) + 7.0, np.array([1, 0]))
    assert np.allclose(np.exp(odds), [0.3 / 0.3, 0.5 / 0.25])


def test_twins_are_cut_to_what_can_be_aligned(loaded: LoadedModel, prompts: list[Prompt]):
    for text, prompt in zip(TEXTS, prompts, strict=True):
        twin = twin_prompt(loaded, text, prompt)
        assert (twin.span_last, len(twin.ids)) == (prompt.span_last, len(prompt.ids))
        assert (twin.ids != prompt.ids).sum() >= 1


def test_texts_that_cannot_be_used_are_left_out_with_a_reason(loaded: LoadedModel):
    good = TEXTS[0]
    assert good.consequence is not None
    same = Consequence(position=good.consequence.position, tokens=dict.fromkeys(LABELS, " is"))
    bad = LabelledText(text=good.text, variable="number", label=good.label, span=good.span, consequence=same)
    result = prompts_of(loaded, [bad, good], LABELS)
    assert result.texts == [good]
    assert "same token" in result.problems[0]
    with pytest.raises(InputError, match="no text of variable 'number' is usable"):
        prompts_of(loaded, [bad], LABELS)


def test_texts_without_a_consequence_are_read_at_the_span_alone(loaded: LoadedModel):
    bare = [t.model_copy(update={"consequence": None}) for t in TEXTS[:4]]
    prompts = prompts_of(loaded, bare, LABELS).prompts
    features = residual_features(prompts, read_site(loaded, SITE, prompts))
    assert list(features) == ["span"]
    assert all(len(prompt.ids) == prompt.span_last + 1 for prompt in prompts)


def test_held_out_texts_are_of_the_test_split(loaded: LoadedModel):
    held_out = held_out_texts(loaded, TEXTS, 100, seed=0)
    assert 0 < len(held_out.texts) < len(TEXTS)
    assert all(split_of(text.key, LABELLED) == "test" for text in held_out.texts)
    assert [LABELS[i] for i in held_out.label] == [text.label for text in held_out.texts]


def test_batches_hold_every_prompt_once_and_little_padding():
    lengths = [5, 1, 9, 9, 2, 30, 4]
    batches = by_length(lengths, 20)
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 20 for batch in batches)


def random_dictionary(d: int) -> Dictionary:
    dictionary = Dictionary(DictionaryConfig(d_in=d, d_out=d, d_sae=64, activation=TopK(k=8)))
    rows = torch.nn.functional.normalize(torch.randn(64, d, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        dictionary.W_dec.copy_(rows)
        dictionary.encoder_rows.copy_(rows)
    return dictionary
