"""Laws of the dictionary that every preset ends with."""

import math

import pytest
import torch

import sae
from sae.dictionary import Dictionary, MatchingPursuit
from sae.dictionary.scale import fold
from sae.kernels import DenseCode
from sae.training import State, result
from sae.training.presets import broad_of
from sae.training.state import scaled


def test_decode_is_affine(variant, dictionary):
    a, b = (dictionary.encode(variant.read(dictionary, step)).dense() for step in (1, 2))
    mixed = dictionary.decode(DenseCode(0.3 * a + 0.7 * b))
    expected = 0.3 * dictionary.decode(DenseCode(a)) + 0.7 * dictionary.decode(DenseCode(b))
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-5)


def test_any_leading_axes(variant, dictionary):
    flat = variant.read(dictionary, 1)
    for shape in ((), (1,), (3, 4), (2, 3, 2), (0,), (2, 0)):
        n = math.prod(shape)
        x = flat[:n].view(*shape, dictionary.d_in)
        code, y = dictionary.encode(x), dictionary(x)
        assert y.shape == (*shape, dictionary.d_out)
        assert code.l0().shape == shape
        dense = code.dense().view(n, dictionary.d_sae)
        torch.testing.assert_close(dense, dictionary.encode(flat[:n]).dense(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(y.view(n, dictionary.d_out), dictionary(flat[:n]), rtol=1e-5, atol=1e-5)


def test_a_batch_equals_its_rows(variant, dictionary):
    """To rounding, away from ties: pre-activations as near as rounding to the cut may fall on either side."""
    x = variant.read(dictionary, 3)
    whole = dictionary.encode(x).dense()
    rows = torch.cat([dictionary.encode(row[None]).dense() for row in x])
    size = float(whole.detach().max())
    torch.testing.assert_close(whole / size, rows / size, rtol=0, atol=1e-6)


def test_saved_and_loaded_gives_the_same_bits(variant, dictionary, tmp_path):
    dictionary.save(tmp_path)
    loaded = sae.load(tmp_path)
    x = variant.read(dictionary, 4)
    assert loaded.config == dictionary.config
    assert Dictionary(loaded.config).state_dict().keys() == loaded.state_dict().keys()
    assert torch.equal(loaded.encode(x).dense(), dictionary.encode(x).dense())
    assert torch.equal(loaded(x), dictionary(x))


def test_folding_the_scales_changes_nothing(variant, state: State, dictionary):
    """And gives each site its own: those of a transcoder and of a crosscoder differ thirty- and fiftyfold."""
    trained = state.dictionary.copy()
    batch = scaled(trained.config, state.scales, variant.batch(5))
    y = scaled(trained.config, state.scales, _beside(variant, dictionary, 5)).target
    torch.testing.assert_close(y, trained(batch.x), rtol=1e-5, atol=1e-5)
    code = dictionary.encode(variant.read(dictionary, 5)).dense() * state.scales.unit
    torch.testing.assert_close(code, trained.encode(batch.x).dense(), rtol=1e-5, atol=1e-5)


def _beside(variant, dictionary: Dictionary, step: int) -> torch.Tensor:
    """A batch in which what the dictionary writes stands in the place of the target."""
    x = variant.read(dictionary, step)
    y = dictionary(x).detach()
    return y if dictionary.config.target is None else torch.cat([x, y], dim=1)


def test_folding_is_undone_by_the_inverse(state: State):
    back = fold(result(state), state.scales.inverse())
    for name, value in state.dictionary.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_decoder_rows_and_thresholds_are_what_the_preset_says(variant, state: State):
    norms = state.dictionary.W_dec.detach().norm(dim=1)
    is_free = bool((norms - 1).abs().max() > 1e-4)
    assert is_free == (variant.name in ("jumprelu-tanh", "crosscoder"))
    if variant.name.startswith("jumprelu"):
        assert state.dictionary.threshold.min() >= 0


def test_codes_are_sparse_and_not_negative(variant, dictionary):
    code = dictionary.encode(variant.read(dictionary, 6))
    assert (code.dense() >= 0).all()
    assert 0 < code.l0().double().mean() < dictionary.d_sae / 2


def test_a_start_is_as_sparse_as_asked(learner):
    """No preset begins with half of its latents on; those under an L1 begin broad."""
    dictionary, wanted = result(learner.start()), 3 * broad_of(learner.config())
    l0 = dictionary.encode(learner.read(dictionary, 7)).l0().double().mean()
    assert float(l0) == pytest.approx(wanted, rel=0.1)
    assert wanted < dictionary.d_sae / 2


def test_matching_pursuit_has_one_matrix(variant, dictionary):
    tied = dictionary.encoder_rows is dictionary.W_dec
    assert tied == isinstance(dictionary.config.activation, MatchingPursuit)
