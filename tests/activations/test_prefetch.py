"""Prefetched batches are the batches, whatever is asked for; errors reach the caller; memory is bounded."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sae.activations.columns import ColumnBatches, sites_of
from sae.activations.prefetch import Prefetched
from sae.activations.reader import Activations
from sae.activations.shuffle import Mixing, Reader, ShuffledBatches
from sae.core.errors import WorldError

SITE, OTHER = "blocks.0.resid_post", "blocks.1.resid_post"


@pytest.fixture
def activations(tmp_path: Path, write_rows: Callable[..., None]) -> Activations:
    write_rows(tmp_path, n_documents=150, length=20, sites={SITE: 3}, encoding="float16", shard_rows=1000)
    return Activations(tmp_path)


def shuffled(activations: Activations, read_ahead: bool = False) -> ShuffledBatches:
    return ShuffledBatches(activations, SITE, "train", 64, 0, Mixing(500, 8), Reader(read_ahead=read_ahead))


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize("n_ahead", [1, 3])
def test_batches_are_those_without_it(activations: Activations, read_ahead: bool, n_ahead: int) -> None:
    plain = shuffled(activations)
    with Prefetched(shuffled(activations, read_ahead), n_ahead) as batches:
        for step in [*range(60), 7, 8, 200, 0, 0, 1]:
            assert torch.equal(batches.batch(step), plain.batch(step))
    plain.close()


def test_several_sites_side_by_side(tmp_path: Path, write_rows: Callable[..., None]) -> None:
    write_rows(tmp_path, n_documents=150, length=20, sites={SITE: 3, OTHER: 2}, encoding="float16", shard_rows=1000)
    columns = sites_of(Activations(tmp_path), [SITE, OTHER])
    plain = ColumnBatches(columns, "train", 64)
    with Prefetched(ColumnBatches(columns, "train", 64)) as batches:
        assert batches.n_bytes >= plain.n_bytes + 2 * 64 * columns.d * 4
        for step in [*range(30), 3]:
            assert torch.equal(batches.batch(step), plain.batch(step))
    plain.close()


def test_a_batch_stays_when_others_follow(activations: Activations) -> None:
    with Prefetched(shuffled(activations)) as batches:
        first = batches.batch(0)
        copy = first.clone()
        for step in range(1, 40):
            batches.batch(step)
        assert torch.equal(first, copy)


def test_threads_end_with_it(activations: Activations) -> None:
    before = threading.active_count()
    batches = Prefetched(shuffled(activations, read_ahead=True))
    batches.batch(0)
    assert threading.active_count() > before
    batches.close()
    batches.close()
    assert threading.active_count() == before


def _take(batches: Prefetched, steps: range) -> None:
    for step in steps:
        batches.batch(step)


@pytest.mark.parametrize("read_ahead", [False, True])
def test_an_error_of_the_thread_reaches_the_caller(activations: Activations, read_ahead: bool) -> None:
    shard = activations.folder / "train-00001.h5"
    whole = shard.read_bytes()
    with Prefetched(shuffled(activations, read_ahead)) as batches:
        good = batches.batch(0)
        shard.write_bytes(whole[:4000])
        with pytest.raises(WorldError, match=r"train-00001\.h5 ends before its rows do"):
            _take(batches, range(1, 40))
        shard.write_bytes(whole)
        assert torch.equal(batches.batch(0), good)


def test_memory_is_stated(activations: Activations) -> None:
    plain = shuffled(activations)
    batch = 64 * 3 * 4
    assert Prefetched(plain, n_ahead=2).n_bytes == plain.n_bytes + 3 * batch
    assert plain.n_bytes <= 508 * 3 * 2
    plain.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA: nothing is pinned")
def test_batches_are_pinned_where_cuda_is(activations: Activations) -> None:
    plain = shuffled(activations)
    with Prefetched(shuffled(activations, True)) as batches:
        for step in range(30):
            x = batches.batch(step)
            assert x.is_pinned()
            assert torch.equal(x.to("cuda", non_blocking=True).cpu(), plain.batch(step))
    plain.close()
