"""A truth is what its configuration says: frequencies, trees, correlation, overlap; and a stream is its rows."""

import json

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from sae.core.errors import InputError, WorldError
from sae.synthetic import SHAPES, Truth, TruthConfig, load_truth, shape
from sae.synthetic.forest import NO_PARENT, asked
from sae.synthetic.superposition import overlaps
from sae.synthetic.truth import BLOCK

N = 40 * BLOCK


@pytest.fixture(scope="module")
def active(small):
    return small.stream().codes(0, N).dense() > 0


def test_every_feature_is_as_frequent_as_it_says(small, active):
    p = small.frequencies.numpy()
    off = (active.double().mean(0).numpy() - p) / np.sqrt(p * (1 - p) / N)
    assert np.abs(off).max() < 4.5
    assert float(active.double().sum(1).mean()) == pytest.approx(small.l0, rel=0.02)


def test_frequencies_are_those_asked_for_up_to_what_a_parent_allows(small):
    p, parents, wanted = small.forest.frequencies, small.forest.parents, asked(small.config)
    assert wanted[0] == pytest.approx(0.3)
    assert wanted[-1] == pytest.approx(0.01)
    np.testing.assert_allclose(p[parents == NO_PARENT], wanted[parents == NO_PARENT])
    for parent in set(parents[parents != NO_PARENT]):
        children = np.nonzero(parents == parent)[0]
        assert p[children].sum() == pytest.approx(min(0.8 * p[parent], wanted[children].sum()))
    assert (p <= wanted + 1e-12).all()


def test_children_need_their_parent_and_exclude_their_siblings(small, active):
    parents = torch.from_numpy(small.forest.parents)
    children = (parents != NO_PARENT).nonzero().flatten()
    assert len(children) == 2 * (3 + 9)
    assert active[:, children].any(0).all()
    assert not (active[:, children] & ~active[:, parents[children]]).any()
    for parent in parents[children].unique():
        assert int(active[:, parents == parent].sum(1).max()) == 1


def test_correlation_has_the_rank_asked_for_and_shows_in_pairs(small, active):
    causes, free = small.causes, small.forest.free
    correlation = causes.correlation.double().numpy()
    own = 1 / (2 * causes.slopes.double().numpy() ** 2)
    assert np.linalg.matrix_rank(correlation - np.diag(own), tol=1e-4) == 3
    np.testing.assert_allclose((causes.weights.double().numpy() ** 2).sum(0) + own, 1, atol=1e-6)
    on = active[:, torch.from_numpy(free)].double().numpy()
    t, upper = norm.isf(small.forest.frequencies[free]), np.triu(np.abs(correlation), 1)
    for pair in np.argsort(upper, axis=None)[::-1][:6]:
        i, j = np.unravel_index(pair, upper.shape)
        both = _both_above(t[i], t[j], correlation[i, j])
        assert abs((on[:, i] * on[:, j]).mean() - both) < 4.5 * np.sqrt(both / N)


def _both_above(a, b, r):
    """P(g > a, h > b) of two standard normal numbers with correlation r."""
    return quad(lambda g: norm.pdf(g) * norm.sf((b - r * g) / np.sqrt(1 - r * r)), a, 9)[0]


def test_without_causes_features_are_independent():
    data = Truth(TruthConfig(d=4, n_features=12, highest=0.4, lowest=0.2))
    on = (data.stream().codes(0, N).dense() > 0).double()
    assert float(torch.corrcoef(on.T).fill_diagonal_(0).abs().max()) < 4.5 / N**0.5


def test_sizes_are_those_of_each_feature(small, active):
    code = small.stream().codes(0, N).dense()
    means = code.sum(0) / active.sum(0)
    error = torch.from_numpy(small.spreads) / active.sum(0).sqrt()
    assert float(((means - torch.from_numpy(small.sizes)).abs() / error).max()) < 4.5


def test_rows_are_codes_times_directions_plus_offset_and_noise(small):
    stream = small.stream("test")
    rest = stream.rows(0, N) - stream.codes(0, N).dense() @ small.directions
    torch.testing.assert_close(rest.mean(0), small.offset, atol=2e-3, rtol=0)
    assert float(rest.std(0).mean()) == pytest.approx(0.05, rel=0.01)


@pytest.mark.parametrize("batch", [1, 100, BLOCK, BLOCK + 1])
def test_batches_of_any_size_cut_the_same_stream(small, batch):
    whole, stream = small.stream().rows(0, 3 * BLOCK), small.stream(batch=batch)
    n = min(3 * BLOCK // batch, 8)
    parts = [stream.batch(step) for step in reversed(range(n))][::-1]
    assert torch.equal(torch.cat(parts), whole[: n * batch])
    code = small.stream().codes(BLOCK - 2, BLOCK + 3)
    assert torch.equal(code.dense(), small.stream().codes(0, 2 * BLOCK).dense()[BLOCK - 2 : BLOCK + 3])


def test_nothing_can_be_taken_and_nothing_before_the_first_row(small):
    assert small.stream().rows(7, 7).shape == (0, 24)
    assert small.stream().codes(7, 7).shape == (0,)
    with pytest.raises(InputError, match="from 0 upwards"):
        small.stream().rows(-1, 4)


def test_the_same_seed_gives_the_same_bits_and_another_other_ones(small):
    again, other = Truth(small.config), Truth(small.config.model_copy(update={"seed": 1}))
    assert torch.equal(again.directions, small.directions)
    assert torch.equal(again.stream().rows(0, 9), small.stream().rows(0, 9))
    assert not torch.equal(again.stream("test").rows(0, 9), small.stream().rows(0, 9))
    assert float((other.directions * small.directions).sum(1).abs().mean()) < 0.5


def test_what_is_saved_comes_back(small, tmp_path):
    small.save(tmp_path)
    loaded = load_truth(tmp_path)
    assert loaded.config == small.config
    assert torch.equal(loaded.stream().rows(0, 9), small.stream().rows(0, 9))


def test_what_is_not_a_truth_is_refused(small, tmp_path):
    with pytest.raises(InputError, match="no truth"):
        load_truth(tmp_path)
    small.save(tmp_path)
    file = tmp_path / "truth.json"
    record = json.loads(file.read_text())
    record["shown"]["rows"][0][0] += 1
    file.write_text(json.dumps(record))
    with pytest.raises(WorldError, match="another version"):
        load_truth(tmp_path)
    for damage in ("{", "[]", json.dumps({**record, "config": {"d": 0}})):
        file.write_text(damage)
        with pytest.raises(WorldError, match="damaged"):
            load_truth(tmp_path)


def test_superposition_is_held_below_the_bound():
    free, held = (Truth(TruthConfig(d=16, n_features=48, max_cosine=bound)) for bound in (None, 0.4))
    assert float(overlaps(free.directions).max()) > 0.5
    assert float(overlaps(held.directions).max()) <= 0.4
    torch.testing.assert_close(held.directions.norm(dim=1), torch.ones(48))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"max_cosine": 0.1}, "out of reach"),
        ({"max_cosine": 0.22}, "not reached"),
        ({"n_trees": 1, "depth": 3}, "have 85 features"),
        ({"highest": 0.1, "lowest": 0.2}, "above highest"),
        ({"sizes": (1.0, 0.0)}, "positive"),
    ],
)
def test_what_cannot_be_is_refused(keys, said):
    with pytest.raises((InputError, ValueError), match=said):
        Truth(TruthConfig(**{"d": 16, "n_features": 48, **keys}))


@pytest.mark.parametrize(("name", "l0"), [("16384-in-768", 34.0), ("2048-in-256", 9.7), ("1024-in-128", 6.2)])
def test_named_shapes_are_what_they_are_called(name, l0):
    truth = Truth(shape(name, seed=3))
    assert truth.directions.shape == tuple(map(int, name.split("-in-")))
    assert truth.l0 == pytest.approx(l0, abs=0.05)
    assert truth.config.in_trees == truth.config.n_trees * 85
    assert truth.stream().rows(0, 2).shape == (2, truth.config.d)


def test_another_name_is_refused():
    assert len(SHAPES) == 3
    with pytest.raises(InputError, match="16384-in-768"):
        shape("4096-in-512")
