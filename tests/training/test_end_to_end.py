"""Laws of the end-to-end term: it is what the model loses, and it teaches any preset."""

from typing import Any, Literal

import pytest
import torch

from sae.activations.columns import ColumnBatches, sites_of
from sae.activations.reader import Activations
from sae.activations.text_windows import TextWindows
from sae.dictionary import Part
from sae.dictionary.sites import SpliceSites, one, splice_sites
from sae.lm.hooks import editing
from sae.lm.load import LoadedModel
from sae.training import Places, TrainConfig, initial, loop, one_site, result
from sae.training.end_to_end import EndToEnd
from sae.training.presets import dictionary_of

SITE, D = "blocks.1.resid_post", 16


def config(**changes: Any) -> TrainConfig:
    base = {"d_sae": 64, "l0": 4, "batch": 256, "tokens": 256 * 30, "log_every_steps": 1, "learning_rate": 3e-3}
    return TrainConfig.model_validate(base | changes)


def term(
    loaded: LoadedModel, harvested: Activations, sites: SpliceSites, kind: Literal["kl", "ce"] = "kl", n: int = 2
) -> EndToEnd:
    return EndToEnd(loaded, sites, TextWindows(harvested, "train", n, seed=0), kind, 1.0)


def test_a_step_has_its_own_windows_whatever_came_before(harvested: Activations):
    windows = TextWindows(harvested, "train", 2, seed=0)
    first = [windows.batch(step).packed.input_ids for step in (0, 1, 200)]
    again = [TextWindows(harvested, "train", 2, seed=0).batch(step).packed.input_ids for step in (200, 1, 0)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert not torch.equal(first[0], first[1])
    assert all(1 <= len(ids) <= 2 for ids in first)


def test_what_loses_nothing_has_no_divergence(loaded: LoadedModel, harvested: Activations):
    sample = harvested.sample("train", SITE, 2000)
    whole = initial(sample, config(preset="identity", l0=D, d_sae=2 * D), one_site(D, SITE))
    lost = term(loaded, harvested, one(SITE)).loss(whole.dictionary, whole.scales, 0)
    assert lost.detach() < 1e-6


@pytest.mark.parametrize("kind", ["kl", "ce"])
def test_it_is_the_loss_of_the_model_with_the_folded_dictionary(
    loaded: LoadedModel, harvested: Activations, kind: Literal["kl", "ce"]
):
    state = initial(harvested.sample("train", SITE, 2000), config(), one_site(D, SITE))
    text = TextWindows(harvested, "train", 2, seed=0).batch(3)
    dictionary, ids = result(state), text.packed.input_ids

    def splice(x: torch.Tensor, _context: object) -> torch.Tensor:
        return torch.where(text.harvested[..., None], dictionary(x), x)

    with torch.no_grad():
        clean = loaded(**text.packed.inputs()).logits.log_softmax(-1)
        with editing(loaded, {SITE: splice}):
            spliced = loaded(**text.packed.inputs()).logits.log_softmax(-1)
    documents, losses = text.packed.documents, []
    for row in range(len(ids)):
        for at in range(ids.shape[1] - 1):
            if documents[row, at] >= 0 and documents[row, at] == documents[row, at + 1]:
                p, q = clean[row, at], spliced[row, at]
                losses.append((p.exp() * (p - q)).sum() if kind == "kl" else -q[ids[row, at + 1]])
    found = term(loaded, harvested, one(SITE), kind).loss(state.dictionary, state.scales, 3)
    torch.testing.assert_close(found.detach(), torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


PLACES = {
    "transcoder": Places(source=(Part(site="blocks.0.mlp_in", d=D),), target=Part(site="blocks.0.mlp_out", d=D)),
    "crosscoder": Places(source=(Part(site="blocks.0.mlp_out", d=D), Part(site=SITE, d=D))),
}


@pytest.mark.parametrize("preset", ["topk", "batchtopk", "matryoshka", "relu", "jumprelu", "gated", *PLACES])
def test_its_gradient_reaches_any_preset_and_never_the_model(loaded: LoadedModel, harvested: Activations, preset: str):
    places = PLACES.get(preset, one_site(D, SITE))
    sample = sites_of(harvested, [part.site or "" for part in places.columns]).sample("train", 2000)
    state = initial(sample, config(preset=preset), places)
    sites = splice_sites(dictionary_of(config(preset=preset), places), SITE)
    term(loaded, harvested, sites).loss(state.dictionary, state.scales, 0).backward()
    for parameter in (state.dictionary.encoder_rows, state.dictionary.W_dec, state.dictionary.b_dec):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in loaded.model.parameters())


@pytest.mark.parametrize("preset", ["topk", "transcoder", "crosscoder"])
def test_the_model_loses_less_where_it_is_trained_on_that(loaded: LoadedModel, harvested: Activations, preset: str):
    places = PLACES.get(preset, one_site(D, SITE))
    columns = sites_of(harvested, [part.site or "" for part in places.columns])
    run = config(preset=preset)
    sites = splice_sites(dictionary_of(run, places), SITE)

    def divergence(weight: float) -> float:
        state = initial(columns.sample("train", 2000), run, places)
        lossy = EndToEnd(loaded, sites, TextWindows(harvested, "train", 2, seed=0), "kl", weight)
        for _ in loop(state, ColumnBatches(columns, "train", 256, 0), run, lossy):
            pass
        check = term(loaded, harvested, sites, n=8)
        with torch.no_grad():
            return sum(float(check.loss(state.dictionary, state.scales, 1000 + i)) for i in range(3)) / 3

    assert divergence(30.0) < divergence(1e-6)
