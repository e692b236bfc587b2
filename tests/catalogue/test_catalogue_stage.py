"""The catalogue stage from artifacts to features, against brute force over the stored rows."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.catalogue import CatalogueConfig, run
from pipelines.stage import Inputs, Progress
from sae.activations.reader import Activations
from sae.catalogue import Catalogue, texts
from sae.catalogue.contexts import AFTER, BEFORE
from sae.catalogue.records import Example, TokenEffect
from sae.catalogue.texts import Texts, TextWriter
from sae.core.errors import InputError, WorldError
from sae.dictionary import Dictionary, load
from sae.lm.unembed import unembedding

N_DEAD = 4


@pytest.fixture(scope="module")
def activations(inputs: Inputs) -> Activations:
    return Activations(inputs.parents["harvest"].path)


@pytest.fixture(scope="module")
def dictionary(inputs: Inputs) -> Dictionary:
    return load(inputs.parents["train"].path).requires_grad_(False)


@pytest.fixture(scope="module")
def code(activations: Activations, dictionary: Dictionary) -> np.ndarray:
    """[row, latent]"""
    return dictionary.encode(activations.rows("test", dictionary.config.site or "")).dense().numpy()


@pytest.fixture
def catalogue(catalogue_folder: Path):
    with Catalogue(catalogue_folder) as opened:
        yield opened


def test_densities_are_those_of_the_rows(catalogue: Catalogue, code: np.ndarray):
    np.testing.assert_allclose(catalogue.densities, (code > 0).mean(0))
    np.testing.assert_allclose(catalogue.max_activations, code.max(0), rtol=1e-5)
    assert catalogue.n_latents == code.shape[1]
    assert catalogue.n_tokens == len(code)


def test_every_feature_agrees_with_the_rows(catalogue: Catalogue, code: np.ndarray, activations: Activations):
    documents, positions = activations.documents("test"), activations.positions("test")
    for latent in range(catalogue.n_latents):
        feature, own = catalogue.feature(latent), code[:, latent]
        assert sum(feature.histogram.counts) == feature.n_active == (own > 0).sum()
        per_document = [own[documents == d].max() for d in np.unique(documents)]
        strongest = sorted((v for v in per_document if v > 0), reverse=True)[:5]
        np.testing.assert_allclose([e.activation for e in feature.examples], strongest, rtol=1e-5)
        assert len({e.document for e in feature.examples}) == len(feature.examples)
        for example in feature.examples:
            row = np.flatnonzero((documents == example.document) & (positions == example.position))
            np.testing.assert_allclose(own[row], example.activation, rtol=1e-5)


def test_examples_show_tokens_and_activations_of_their_document(
    catalogue: Catalogue, code: np.ndarray, activations: Activations, inputs: Inputs
):
    documents, positions = activations.documents("test"), activations.positions("test")
    for latent in range(N_DEAD, N_DEAD + 6):
        for example in catalogue.feature(latent).examples:
            ids = activations.tokens.document(example.document).ids
            start = max(0, example.position - BEFORE)
            stop = min(len(ids), example.position + AFTER + 1)
            words = inputs.model().tokenizer.convert_ids_to_tokens(ids[start:stop].tolist())
            assert [token.strip() for token in example.tokens] == words
            assert example.peak == example.position - start
            assert example.values[example.peak] == pytest.approx(example.activation, abs=2e-6)
            at = {int(p): i for i, p in enumerate(positions) if documents[i] == example.document}
            expected = [code[at[p], latent] if p in at else 0 for p in range(start, stop)]
            np.testing.assert_allclose(example.values, expected, atol=2e-6, rtol=1e-5)
            assert len(example.tokens) == len(example.values)


def test_dead_latents_have_directions_and_no_examples(catalogue: Catalogue):
    feature = catalogue.feature(0)
    assert feature.density == feature.max_activation == feature.mean_activation == 0
    assert feature.examples == ()
    assert len(feature.promoted) == len(feature.suppressed) == 10
    assert len(feature.neighbours) == 8


def test_promoted_tokens_are_those_of_the_unembedding(catalogue: Catalogue, dictionary: Dictionary, inputs: Inputs):
    logits = dictionary.W_dec @ unembedding(inputs.model())
    for latent in (0, 7, 30):
        best = catalogue.feature(latent).promoted[0]
        assert best.token_id == int(logits[latent].argmax())
        assert best.logits_per_unit == pytest.approx(float(logits[latent].max()), abs=1e-5)
        assert catalogue.feature(latent).suppressed[0].token_id == int(logits[latent].argmin())


def test_search_finds_words_of_examples_and_promoted_tokens(catalogue: Catalogue):
    feature = catalogue.feature(N_DEAD)
    word = feature.examples[0].tokens[feature.examples[0].peak].strip()
    assert N_DEAD in catalogue.search(word)
    assert 0 in catalogue.search(catalogue.feature(0).promoted[0].token.strip())
    assert catalogue.search("nosuchword") == catalogue.search("") == []
    assert catalogue.search('"odd" AND (query*') == []


def test_the_same_inputs_give_the_same_bytes(
    catalogue_folder: Path, inputs: Inputs, progress: Progress, tmp_path: Path
):
    run(CatalogueConfig(n_examples=5), inputs, tmp_path, progress)
    for name in ("features.h5", "catalogue.sqlite"):
        assert (tmp_path / name).read_bytes() == (catalogue_folder / name).read_bytes(), name


def test_metrics_say_how_many_latents_fire(inputs: Inputs, progress: Progress, tmp_path: Path, code: np.ndarray):
    metrics = run(CatalogueConfig(n_examples=0, n_neighbours=0), inputs, tmp_path, progress)
    assert metrics["n_firing_latents"] == (code > 0).any(0).sum()
    assert metrics["n_examples"] == 0
    with Catalogue(tmp_path) as catalogue:
        assert catalogue.feature(9).examples == catalogue.feature(9).neighbours == ()


def test_what_is_no_catalogue_is_refused(catalogue: Catalogue, tmp_path: Path):
    with pytest.raises(InputError, match="holds no catalogue"):
        Catalogue(tmp_path)
    with pytest.raises(InputError, match="there are 0 to 39"):
        catalogue.feature(40)
    (tmp_path / "features.h5").write_bytes(b"damaged")
    with pytest.raises(WorldError, match="damaged"):
        Catalogue(tmp_path)


def test_search_works_where_sqlite_has_no_full_text_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    plain = "CREATE TABLE search (examples TEXT, promoted TEXT)"
    monkeypatch.setattr(texts, "_create_search", lambda database: database.execute(plain))
    example = Example(document=0, position=1, activation=2, tokens=(" two", " Dogs"), values=(0, 2), peak=1)
    with TextWriter(tmp_path) as writer:
        writer.write(0, [], [TokenEffect(token=" cat", token_id=3, logits_per_unit=1)], [])
        writer.write(1, [example], [], [])
    read = Texts(tmp_path)
    assert read.search("dogs two", 9) == [1]
    assert read.search("CAT", 9) == [0]
    assert read.examples(1) == (example,)
    read.close()
