"""Laws of sites side by side."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sae.activations.columns import Column, ColumnBatches, Columns, sites_of
from sae.activations.reader import Activations
from sae.activations.shuffle import ShuffledBatches
from sae.core.errors import InputError

SITES = {"embed": 3, "blocks.0.resid_post": 5}


@pytest.fixture
def activations(write_rows: Callable[..., None], tmp_path: Path) -> Activations:
    return made(write_rows, tmp_path / "one")


def made(write_rows: Callable[..., None], folder: Path, n: int = 40, length: int = 7) -> Activations:
    folder.mkdir()
    write_rows(folder, n, length, SITES, "float32", 50)
    return Activations(folder)


def test_a_row_holds_one_token_of_every_site(activations: Activations):
    columns = sites_of(activations, ["blocks.0.resid_post", "embed"])
    assert columns.widths == (5, 3)
    for x in (columns.rows("train", 3, 20), columns.sample("train", 30), next(columns.blocks("train", 16)).x):
        assert x.shape[1] == columns.d == 8
        # The first two numbers of a site's row are its document and position, moved by 100 for the second site.
        assert torch.equal(x[:, :2] - 100, x[:, 5:7])


def test_batches_are_those_of_each_site_in_one_order(activations: Activations):
    both = ColumnBatches(sites_of(activations, list(SITES)), "train", 16, seed=3)
    alone = [ShuffledBatches(activations, site, "train", 16, 3) for site in SITES]
    for step in (5, 0, 40):
        assert torch.equal(both.batch(step), torch.cat([one.batch(step) for one in alone], dim=1))
        np.testing.assert_array_equal(both.row_numbers(step), alone[0].row_numbers(step))


def test_two_harvests_go_together_where_tokens_and_rows_are_equal(
    activations: Activations, write_rows: Callable[..., None], tmp_path: Path
):
    twin = made(write_rows, tmp_path / "twin")
    columns = Columns([Column(activations, "embed"), Column(twin, "embed")])
    x = columns.rows("validation")
    assert torch.equal(x[:, :3], x[:, 3:])
    for n, length in ((41, 7), (40, 8)):
        other = made(write_rows, tmp_path / f"{n}-{length}", n, length)
        with pytest.raises(InputError, match="hold other tokens"):
            Columns([Column(activations, "embed"), Column(other, "embed")])


def test_a_site_that_is_not_there_is_named(activations: Activations):
    with pytest.raises(InputError, match=r"no site 'final'"):
        sites_of(activations, ["embed", "final"])
