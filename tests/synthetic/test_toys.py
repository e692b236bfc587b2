"""The gates of toy models of superposition, at a tenth of the length of `scripts/study_toys.py`."""

import math

import pytest
import torch

import sae
from sae.core.errors import InputError
from sae.synthetic import toys
from sae.synthetic.geometry import dimensionality, dimensions_per_feature, groups, represented
from sae.synthetic.pairing import paired
from sae.synthetic.phases import phase_diagram
from sae.training import TrainConfig

DENSITIES = torch.tensor([1.0, 0.277, 0.118, 0.05])
IMPORTANCE = (0.9 ** torch.arange(5.0)).expand(4, 5)
FIVE = toys.ToyConfig(n_features=5, n_hidden=2, n_steps=1000, batch=256, learning_rate=8e-3)


@pytest.fixture(scope="module")
def five() -> toys.Toys:
    return toys.train_toys(FIVE, DENSITIES, IMPORTANCE)


def test_dense_features_have_a_dimension_each(five):
    assert int(represented(five.W[0]).sum()) == 2
    assert dimensionality(five.W[0])[represented(five.W[0])].min() > 0.9
    assert float(dimensions_per_feature(five.W[0])) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("share", "name"), [(1 / 2, "digon"), (2 / 5, "pentagon")])
def test_sparse_features_share_dimensions_as_polytopes_do(five, share, name):
    medians = dimensionality(five.W).median(1).values
    assert float((medians - share).abs().min()) < 0.03
    assert name in {group.name for W in five.W for group in groups(W)}


def test_a_linear_model_keeps_the_principal_components():
    linear = FIVE.model_copy(update={"output": "linear"})
    trained = toys.train_toys(linear, DENSITIES[-1:], IMPORTANCE[-1:])
    assert represented(trained.W[0]).tolist() == [True, True, False, False, False]
    variance = float(DENSITIES[-1] / 3 - (DENSITIES[-1] / 2) ** 2)
    assert float(trained.losses) == pytest.approx(variance * float(IMPORTANCE[0, 2:].sum()), rel=0.1)


def test_the_phases_of_two_features_in_one_dimension():
    config = toys.ToyConfig(n_features=2, n_hidden=1, n_steps=400, batch=256, learning_rate=1e-2)
    dense, sparse = phase_diagram(torch.tensor([1.0, 0.05]), torch.tensor([0.3, 3.0]), config)
    assert dense == ["ignored", "dedicated"]
    assert sparse == ["superposed", "superposed"]


def test_instances_do_not_touch_one_another():
    short = FIVE.model_copy(update={"n_steps": 20})
    changed = IMPORTANCE.clone()
    changed[1:] = 0.5
    a, b = (toys.train_toys(short, DENSITIES, importance) for importance in (IMPORTANCE, changed))
    assert torch.equal(a.W[0], b.W[0])
    assert not torch.equal(a.W[1], b.W[1])


def test_rows_have_the_density_and_sizes_asked_for():
    one = toys.Toys(torch.eye(3)[None], torch.zeros(1, 3), torch.tensor([0.2]), torch.zeros(1))
    x = one.hidden(0, 20_000)
    assert float((x > 0).double().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(x[x > 0].mean()) == pytest.approx(0.5, abs=0.01)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1


def corners(n: int) -> torch.Tensor:
    angles = 2 * math.pi * torch.arange(n) / n
    return torch.stack([angles.cos(), angles.sin()])


TETRAHEDRON = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 3**0.5


@pytest.mark.parametrize(
    ("W", "names", "share"),
    [
        (torch.eye(3), ["alone"] * 3, 1),
        (torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1]]), ["digon"] * 2, 1 / 2),
        (corners(3), ["triangle"], 2 / 3),
        (corners(5), ["pentagon"], 2 / 5),
        (corners(7), ["7 in 2"], 2 / 7),
        (TETRAHEDRON, ["tetrahedron"], 3 / 4),
    ],
)
def test_polytopes_have_their_names_and_shares(W, names, share):
    assert [group.name for group in groups(W)] == names
    torch.testing.assert_close(dimensionality(W), torch.full((W.shape[1],), float(share)))
    torch.testing.assert_close(dimensions_per_feature(W), torch.tensor(float(share)))


def test_a_feature_that_is_not_there_has_no_dimension():
    W = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert dimensionality(W).tolist() == [1.0, 0.0]
    assert groups(W) == [(((0,)), 1)]


def test_a_dictionary_finds_the_features_of_a_hidden_state():
    config = toys.ToyConfig(n_features=16, n_hidden=6, n_steps=800, batch=256, learning_rate=8e-3)
    trained = toys.train_toys(config, torch.tensor([0.02]), torch.ones(1, 16))
    assert bool(represented(trained.W).all())
    h = trained.hidden(0, 50_000)
    run = TrainConfig(preset="topk", d_sae=32, l0=1, tokens=60_000, batch=256)
    found = sae.train(h[h.norm(dim=1) > 1e-3], run).finish().W_dec.detach()
    planted, random = trained.W[0].T, torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    assert float(paired(planted, found).cosines.mean()) > 0.9
    assert float(paired(planted, random).cosines.mean()) < 0.85


@pytest.mark.parametrize(
    ("density", "importance", "said"), [(0.0, 1.0, "above 0"), (1.1, 1.0, "at most at 1"), (0.5, -1.0, "not negative")]
)
def test_what_is_no_density_or_importance_is_refused(density, importance, said):
    with pytest.raises(InputError, match=said):
        toys.train_toys(FIVE, torch.tensor([density]), torch.full((1, 5), importance))
