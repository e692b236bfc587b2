"""k-sparse probing: a latent that is the variable tells it, whatever its place in the dictionary."""

import numpy as np
import pytest
import torch

from sae import microworld
from sae.core.random import generator
from sae.dictionary import Dictionary, DictionaryConfig, TopK
from sae.evaluation.probing import ACTIVATIONS, Told, mean_over_variables, told
from sae.lm.load import LoadedModel, load_model
from sae.probe.consequence import read_site
from sae.probe.features import residual_features
from sae.probe.variable import Encoded, encoded

SITE, D, N_LATENTS, N_RESAMPLES = "blocks.1.resid_post", 128, 12, 60


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(str(microworld.folder()))


@pytest.fixture(scope="module")
def one(loaded: LoadedModel) -> Encoded:
    return encoded(loaded, microworld.labelled("number", 160, seed=0), 160, 0)


@pytest.fixture(scope="module")
def planted(loaded: LoadedModel, one: Encoded) -> Dictionary:
    """Random latents, and one that fires for the target alone: least squares on all texts."""
    x = torch.from_numpy(residual_features(one.prompts, read_site(loaded, SITE, one.prompts))["span"])
    target = torch.from_numpy(one.sample.truth(one.sample.targets[0]))
    made = of_rows(torch.randn(N_LATENTS, D, generator=generator(0, "rows")))
    with torch.no_grad():
        made.b_dec.copy_(x.mean(0))
        made.encoder_rows[3] = torch.linalg.pinv(x - x.mean(0)) @ (2 * target.float() - 1)
    return made


def of_rows(rows: torch.Tensor) -> Dictionary:
    made = Dictionary(DictionaryConfig(d_in=D, d_out=D, d_sae=len(rows), activation=TopK(k=len(rows)), site=SITE))
    with torch.no_grad():
        made.encoder_rows.copy_(rows)
        made.W_dec.copy_(rows)
    return made


def permuted(dictionary: Dictionary, order: torch.Tensor) -> Dictionary:
    made = dictionary.copy()
    with torch.no_grad():
        for name in ("encoder_rows", "W_dec", "b_enc"):
            getattr(made, name).copy_(getattr(dictionary, name)[order])
    return made


@pytest.fixture(scope="module")
def found(loaded: LoadedModel, one: Encoded, planted: Dictionary) -> Told:
    order = torch.randperm(N_LATENTS, generator=generator(1, "order"))
    dictionaries = {"dictionary": planted, "permuted": permuted(planted, order)}
    return told(loaded, SITE, one, dictionaries, 0, N_RESAMPLES)


def test_a_latent_that_is_the_variable_tells_it(found: Told):
    scores = found.record.accuracies
    own, most = scores["dictionary"]["sparse_1"], scores[ACTIVATIONS]["logistic"]
    assert own.value is not None
    assert most.value is not None
    assert own.value >= most.value
    assert own.value > 0.95
    assert found.record.n_documents >= 20


def test_the_order_of_latents_changes_no_accuracy_and_no_resample(found: Told):
    for method in ("sparse_1", "sparse_5"):
        one, other = found.more["dictionary", method], found.more["permuted", method]
        assert one.value == pytest.approx(other.value)
        np.testing.assert_allclose(one.samples, other.samples)
        assert len(one.samples) == N_RESAMPLES


def test_a_mean_over_variables_is_the_mean_of_their_resamples(found: Told):
    assert mean_over_variables([]) == {}
    alone = mean_over_variables([found])["dictionary"]["sparse_5_accuracy"]
    twice = mean_over_variables([found, found])["dictionary"]["sparse_5_accuracy"]
    assert alone.value == twice.value == found.more["dictionary", "sparse_5"].value
    np.testing.assert_array_equal(alone.samples, twice.samples)
