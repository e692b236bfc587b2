"""Collectives of two gloo processes against the same arithmetic in one; alone, they are the identity."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from sae.kernels import reference, sparse_decode
from sae.parallel import Alone, Mesh, started


def _beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


trajectory = _beside("trajectory")
Results = list[dict[str, torch.Tensor]]
OWN = [torch.arange(6, dtype=torch.float64).view(2, 3) + 10 * rank for rank in range(2)]


@pytest.fixture(scope="module")
def ended(two_processes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    two_processes(Path(__file__).with_name("ranks.py"), folder)
    return folder


@pytest.fixture(scope="module")
def results(ended: Path) -> Results:
    return [load_file(ended / f"{rank}.safetensors") for rank in range(2)]


def test_every_collective_gives_both_ranks_the_same_right_numbers(results: Results) -> None:
    a, b = OWN
    expected = {
        "sum": a + b,
        "mean": (a + b) / 2,
        "sum_": a + b,
        "sum_of_columns": (a + b).T,
        "mean_": (a + b) / 2,
        "max_": torch.maximum(a, -b),
        "any": torch.tensor([True, True, False]),
        "broadcast_": b,
        "gather": torch.cat([a[:1], b[:2]]),
        "total": torch.tensor(3),
    }
    for rank in range(2):
        for name, value in expected.items():
            assert torch.equal(results[rank][f"data.{name}"], value), (rank, name)


def test_the_gradient_of_a_sum_is_that_of_the_sum_of_the_ranks_losses(results: Results) -> None:
    leaves = [own.clone().requires_grad_() for own in OWN]
    summed = torch.stack([leaf.square() for leaf in leaves]).sum(0)
    (summed.prod() * 1 + summed.prod() * 2).backward()
    for rank, leaf in enumerate(leaves):
        assert leaf.grad is not None
        torch.testing.assert_close(results[rank]["data.gradient"], leaf.grad)


def test_latents_divided_between_ranks_learn_as_in_one(results: Results) -> None:
    g = torch.Generator().manual_seed(0)
    x, rows, W_dec = (torch.randn(*size, generator=g, dtype=torch.float64) for size in ((9, 4), (11, 4), (11, 4)))
    rows.requires_grad_()
    W_dec.requires_grad_()
    loss = (x - sparse_decode(reference.topk(x @ rows.T, 3), W_dec)).square().sum()
    loss.backward()
    assert rows.grad is not None
    assert W_dec.grad is not None
    for rank in range(2):
        torch.testing.assert_close(results[rank]["latents.loss"], loss.detach())
    for name, grad in (("rows", rows.grad), ("W_dec", W_dec.grad)):
        torch.testing.assert_close(torch.cat([results[rank][f"latents.{name}"] for rank in range(2)]), grad)


def test_a_world_of_one_is_the_identity_and_starts_nothing() -> None:
    with started("cpu") as mesh:
        assert not torch.distributed.is_initialized()
        assert (mesh.size, mesh.is_first) == (1, True)
    for axis in (mesh.data, mesh.dictionary, Mesh.alone().data):
        assert isinstance(axis, Alone)
        x = torch.randn(3, 2)
        for same in (axis.sum(x), axis.mean(x), axis.sum_(x), axis.mean_(x), axis.max_(x), axis.broadcast_(x)):
            assert same is x
        assert axis.gather(x)[0] is x
        assert axis.any(x > 0).tolist() == (x > 0).tolist()
        assert axis.total(5) == 5


@pytest.mark.parametrize("name", trajectory.RUNS)
def test_two_processes_train_as_one(results: Results, name: str) -> None:
    """Every metric of every step, every parameter, moment and counter; both ranks hold the same bits."""
    alone = trajectory.train(name, Mesh.alone())
    prefix = f"run.{name}."
    first, second = ({k.removeprefix(prefix): v for k, v in r.items() if k.startswith(prefix)} for r in results)
    assert first.keys() == second.keys() == alone.keys()
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=1e-9, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")
    if name == "topk":
        assert (alone["metric.auxk"] > 0).any()
    assert (alone["metric.dead_window_fraction"] > 0).any()
    assert alone["metric.loss"][-1] != alone["metric.loss"][0]


def test_a_rank_that_has_ended_is_noticed(ended: Path) -> None:
    assert "another process of the run has ended" in (ended / "heard").read_text(encoding="utf-8")
