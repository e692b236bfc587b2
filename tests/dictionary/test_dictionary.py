"""Laws of a dictionary, for every activation."""

from typing import assert_never

import pytest
import torch

import sae
from sae.core.errors import InputError, WorldError
from sae.dictionary import (
    BatchTopK,
    Dictionary,
    DictionaryConfig,
    Gated,
    JumpRelu,
    MatchingPursuit,
    Relu,
    TopK,
)
from sae.dictionary.scale import fold, uniform

ACTIVATIONS = [
    TopK(k=1),
    TopK(k=4),
    TopK(k=32),
    BatchTopK(k=4),
    Relu(),
    JumpRelu(bandwidth=0.5),
    Gated(),
    MatchingPursuit(k=4),  # of random rows, to which its definition holds as well
]


def build(activation=ACTIVATIONS[1], d: int = 6, d_sae: int = 32, seed: int = 0) -> Dictionary:
    dictionary = Dictionary(DictionaryConfig(d_in=d, d_out=d, d_sae=d_sae, activation=activation, site="embed"))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in dictionary.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for name, value in dictionary.state_dict().items():
            if name == "threshold":
                value.copy_(0.5 * value.abs() + 0.3)
    return dictionary


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=ACTIVATIONS, ids=lambda a: f"{a.kind}{getattr(a, 'k', '')}")
def dictionary(request) -> Dictionary:
    return build(request.param)


def test_decode_is_affine(dictionary):
    a, b = (dictionary.encode(tokens(5, 6, seed=s)).dense() for s in (1, 2))
    code = sae.kernels.DenseCode
    mixed = dictionary.decode(code(0.3 * a + 0.7 * b))
    torch.testing.assert_close(mixed, 0.3 * dictionary.decode(code(a)) + 0.7 * dictionary.decode(code(b)))


@pytest.mark.parametrize("shape", [(), (1,), (12,), (3, 4), (2, 3, 2), (0,)])
def test_any_leading_axes(dictionary, shape):
    x = tokens(*shape, 6)
    code = dictionary.encode(x)
    assert code.dense().shape == (*shape, 32)
    assert code.l0().shape == shape
    assert dictionary(x).shape == (*shape, 6)


def test_a_batch_equals_its_rows(dictionary):
    x = tokens(20, 6)
    rows = torch.stack([dictionary.encode(row).dense() for row in x])
    torch.testing.assert_close(dictionary.encode(x).dense(), rows, rtol=1e-5, atol=1e-6)


def definition(dictionary: Dictionary, x: torch.Tensor) -> torch.Tensor:
    """The code in evaluation mode, dense and one token after the other."""
    left = x - dictionary.b_dec
    pre = left @ dictionary.W_enc + dictionary.b_enc
    match dictionary.config.activation:
        case TopK(k=k):
            cut = pre.sort(-1, descending=True).values[:, k - 1 : k]
            return (pre * (pre >= cut)).relu()
        case BatchTopK() | JumpRelu():
            return (pre * (pre > dictionary.threshold)).relu()
        case Relu():
            return pre.relu()
        case Gated():
            size = dictionary.r_mag.exp() * (left @ dictionary.W_enc) + dictionary.b_mag
            return size.relu() * (pre > 0)
        case MatchingPursuit(k=k):
            code = torch.zeros(len(x), dictionary.d_sae)
            for token in range(len(x)):
                for _ in range(k):
                    match_of = left[token] @ dictionary.W_dec.T
                    f = int(match_of.masked_fill(code[token] != 0, -torch.inf).argmax())
                    code[token, f] = match_of[f].relu()
                    left[token] = left[token] - code[token, f] * dictionary.W_dec[f]
            return code
        case _:
            assert_never(dictionary.config.activation)


def test_code_follows_the_definition(dictionary):
    x = tokens(10, 6)
    with torch.no_grad():
        torch.testing.assert_close(dictionary.encode(x).dense(), definition(dictionary, x), rtol=1e-5, atol=1e-5)


def test_batchtopk_keeps_the_largest_of_a_batch_while_it_trains():
    dictionary, x = build(BatchTopK(k=4)).train(), tokens(10, 6)
    pre = dictionary.pre_activations(x)
    cut = pre.flatten().sort(descending=True).values[39]
    torch.testing.assert_close(dictionary.encode(x).dense(), pre * (pre >= cut))


def test_save_and_load_give_the_same_bits(dictionary, tmp_path):
    dictionary.save(tmp_path / "a")
    loaded = sae.load(tmp_path / "a")
    x = tokens(50, 6)
    assert loaded.config == dictionary.config
    assert torch.equal(loaded(x), dictionary(x))
    loaded.save(tmp_path / "b")
    for name in ("weights.safetensors", "config.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("scale", [0.01, 7.0])
def test_folding_the_scale_changes_nothing(dictionary, scale):
    x = tokens(50, 6)
    folded = fold(dictionary, uniform(scale))
    # Where scaled inputs are small beside the biases, dividing by the scale magnifies the rounding of float32.
    atol = 1e-5 * max(1, 0.1 / scale)
    torch.testing.assert_close(folded(x), dictionary(scale * x) / scale, rtol=1e-5, atol=atol)
    torch.testing.assert_close(
        folded.encode(x).dense(), dictionary.encode(scale * x).dense() / scale, rtol=1e-5, atol=atol
    )


def test_gradients_reach_the_input_and_every_parameter(dictionary):
    x = tokens(9, 6).requires_grad_()
    dictionary.train()(x).square().sum().backward()
    # The step of a gate stops what would reach its bias: it learns from the gate's own terms.
    unmoved = {"b_enc"} if isinstance(dictionary.config.activation, Gated | MatchingPursuit) else set()
    for name, leaf in (("x", x), *dictionary.named_parameters()):
        moves = leaf.grad is not None and bool(leaf.grad.any())
        assert moves == (name not in unmoved), name


def test_wrong_width_names_both():
    with pytest.raises(InputError, match=r"6.*7"):
        build().encode(tokens(3, 7))
    with pytest.raises(InputError, match=r"32.*33"):
        build().decode(sae.kernels.DenseCode(tokens(3, 33)))


def test_more_latents_than_exist_names_both():
    with pytest.raises(InputError, match="l0 9 is larger than d_sae 8"):
        Dictionary(DictionaryConfig(d_in=4, d_out=4, d_sae=8, activation=TopK(k=9)))


def test_an_autoencoder_of_two_widths_is_refused():
    config = DictionaryConfig(d_in=4, d_out=5, d_sae=8, activation=TopK(k=2))
    with pytest.raises(InputError, match="subtract_b_dec"):
        Dictionary(config)
    assert Dictionary(config.model_copy(update={"subtract_b_dec": False}))(torch.ones(3, 4)).shape == (3, 5)


def test_a_folder_that_is_no_dictionary(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="is no dictionary"):
            sae.load(folder)


@pytest.mark.parametrize("damage", ["truncated", "other shape", "nan", "yaml", "key", "l0"])
def test_damaged_files_are_named(tmp_path, damage):
    dictionary = build()
    dictionary.save(tmp_path)
    weights, config = tmp_path / "weights.safetensors", tmp_path / "config.yaml"
    match damage:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-8])
        case "other shape":
            config.write_text(config.read_text().replace("d_sae: 32", "d_sae: 31"))
        case "nan":
            with torch.no_grad():
                dictionary.b_enc[3] = torch.nan
            dictionary.save(tmp_path)
        case "yaml":
            config.write_text("{")
        case "key":
            config.write_text(config.read_text() + "surprise: 1\n")
        case _:
            config.write_text(config.read_text().replace("k: 4", "k: 40"))
    with pytest.raises(WorldError, match=r"safetensors|yaml"):
        sae.load(tmp_path)
