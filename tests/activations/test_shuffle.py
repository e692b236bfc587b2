"""Every epoch visits each row once, any step is the same whatever was asked before, and batches are well mixed."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.activations.order import RowOrder
from sae.activations.reader import Activations
from sae.activations.shuffle import Mixing, Reader, ShuffledBatches
from sae.core.errors import InputError

SITE = "blocks.0.resid_post"


@pytest.fixture(scope="module")
def activations(tmp_path_factory: pytest.TempPathFactory, write_rows: Callable[..., None]) -> Activations:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder, n_documents=300, length=20, sites={SITE: 3, "embed": 2}, encoding="float32", shard_rows=2000)
    return Activations(folder)


def shuffled(activations: Activations, batch: int = 64, seed: int = 0, buffer_rows: int = 1000) -> ShuffledBatches:
    return ShuffledBatches(activations, SITE, "train", batch, seed, Mixing(buffer_rows, 8))


@settings(deadline=None)
@given(
    n_rows=st.integers(1, 500), buffer_rows=st.integers(16, 200), slice_rows=st.integers(1, 16), seed=st.integers(0, 99)
)
def test_every_epoch_has_each_row_once(n_rows: int, buffer_rows: int, slice_rows: int, seed: int) -> None:
    order = RowOrder(n_rows, seed, buffer_rows, slice_rows)
    for epoch in (0, 3):
        buffers = [order.buffer(epoch, b) for b in range(order.n_buffers)]
        rows = np.concatenate([buffer.rows for buffer in buffers])
        assert np.array_equal(np.sort(rows), np.arange(n_rows))
        assert [len(b.permutation) for b in buffers] == [order.n_in(epoch, b) for b in range(order.n_buffers)]
        assert max(len(b.permutation) for b in buffers) <= order.most_rows <= buffer_rows


@settings(deadline=None)
@given(position=st.integers(0, 5000))
def test_places_follow_each_other(position: int) -> None:
    order = RowOrder(333, 5, 64, 7)
    here, following = order.place(position), order.place(position + 1)
    if here.offset + 1 < order.n_in(here.epoch, here.buffer):
        assert following == here._replace(offset=here.offset + 1)
    else:
        assert (following.epoch, following.buffer) == order.after(here.epoch, here.buffer)
        assert following.offset == 0


@pytest.mark.parametrize("batch", [1, 64, 1000, 5400, 7000])
def test_batches_are_the_rows_that_they_name(activations: Activations, batch: int) -> None:
    batches = shuffled(activations, batch)
    x = activations.rows("train", SITE)
    for step in (0, 1, 84, 85):
        assert torch.equal(batches.batch(step), x[batches.row_numbers(step)])
        assert np.array_equal(batches.documents(step), batches.batch(step)[:, 0].numpy())
    batches.close()


@pytest.mark.parametrize("batch", [64, 1500])
@pytest.mark.parametrize("read_ahead", [False, True])
def test_stored_rows_are_those_of_the_batches(activations: Activations, batch: int, read_ahead: bool) -> None:
    stored, batches = (
        ShuffledBatches(activations, SITE, "train", batch, 0, Mixing(1000, 8), Reader(read_ahead=read_ahead))
        for _ in range(2)
    )
    for step in (0, 3, 4, 200):
        assert torch.equal(stored.stored(step), batches.batch(step))
    first = stored.stored(0)
    assert (stored.stored(0).data_ptr() == first.data_ptr()) == (batch < 1000)  # where they lie, without a copy


def test_epochs_follow_without_a_gap(activations: Activations) -> None:
    batches = shuffled(activations, batch=700)
    visited = torch.cat([batches.batch(step) for step in range(24)])[:, :2]
    codes = (visited[:, 0] * 20 + visited[:, 1]).long()
    n = batches.n_rows
    for epoch in range(3):
        assert torch.equal(codes[epoch * n : (epoch + 1) * n].sort().values, torch.arange(n))
    assert not torch.equal(codes[:n], codes[n : 2 * n])
    batches.close()


def test_a_batch_is_the_same_whatever_was_asked_before(activations: Activations) -> None:
    forward = shuffled(activations)
    steps = [0, 1, 14, 15, 16, 17, 84, 85, 300]
    in_order = {step: forward.batch(step) for step in steps}
    for step in reversed(steps):
        alone = shuffled(activations)
        assert torch.equal(alone.batch(step), in_order[step])
        assert torch.equal(forward.batch(step), in_order[step])
        alone.close()
    other = shuffled(activations, seed=1)
    assert not torch.equal(other.batch(0), in_order[0])
    other.close()
    forward.close()


def test_a_batch_keeps_its_numbers_when_the_memory_is_used_again(activations: Activations) -> None:
    batches = shuffled(activations)
    first = batches.batch(0)
    copy = first.clone()
    batches.batch(60)
    assert torch.equal(first, copy)
    batches.close()


@pytest.mark.parametrize(("batch", "n_readers"), [(64, 1), (64, 4), (50, 3), (700, 8)])
def test_the_readers_of_a_step_give_the_single_readers_batch(
    activations: Activations, batch: int, n_readers: int
) -> None:
    single = shuffled(activations, batch)
    readers = [
        ShuffledBatches(activations, SITE, "train", batch, 0, Mixing(1000, 8), Reader(r, n_readers))
        for r in range(n_readers)
    ]
    for step in (0, 3, 84, 107):
        assert torch.equal(torch.cat([reader.batch(step) for reader in readers]), single.batch(step))
        numbers = np.concatenate([reader.row_numbers(step) for reader in readers])
        assert np.array_equal(numbers, single.row_numbers(step))
    for one in (single, *readers):
        one.close()


def test_readers_divide_an_epoch_exactly(activations: Activations) -> None:
    readers = [ShuffledBatches(activations, SITE, batch=54, reader=Reader(r, 4)) for r in range(4)]
    assert activations.n_rows("train") % 54 == 0
    numbers = [reader.row_numbers(step) for reader in readers for step in range(activations.n_rows("train") // 54)]
    assert np.array_equal(np.sort(np.concatenate(numbers)), np.arange(activations.n_rows("train")))
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("steps", [range(170), (0, 20, 40, 3, 84, 85, 86, 0)])
def test_reading_ahead_changes_no_batch(activations: Activations, steps: Sequence[int]) -> None:
    plain = shuffled(activations)
    ahead = ShuffledBatches(activations, SITE, "train", 64, 0, Mixing(1000, 8), Reader(read_ahead=True))
    for step in steps:
        assert torch.equal(ahead.batch(step), plain.batch(step))
    assert ahead.n_bytes == 2 * plain.n_bytes
    ahead.close()
    plain.close()


def test_reading_past_the_page_cache_changes_no_batch(activations: Activations) -> None:
    past = Activations(activations.folder)
    assert not any(past.past_memory.values()), "these few rows stay in memory"
    past.past_memory["train"] = True
    for path in past.folder.glob("train-*.h5"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    other, plain = shuffled(past), shuffled(activations)
    for step in (0, 20, 84, 300):
        assert torch.equal(other.batch(step), plain.batch(step))
    other.close()
    plain.close()


def test_wrong_input_is_refused(activations: Activations, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch of 0"):
        shuffled(activations, batch=0)
    for reader in (Reader(2, 2), Reader(-1, 2), Reader(0, 0), Reader(0, 65)):
        with pytest.raises(InputError, match="it takes 0"):
            ShuffledBatches(activations, SITE, batch=64, reader=reader)
    with pytest.raises(InputError, match="no site 'nowhere'"):
        ShuffledBatches(activations, "nowhere")
    with pytest.raises(InputError, match="cannot shuffle"):
        shuffled(activations, buffer_rows=1)
