"""Groups of seeds: found by what differs, told on the terminal, in the JSON and on the page, or not at all."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.scorecard import headline, show
from sae.core.artifact import Artifact
from sae.dashboard.page import report
from sae.dashboard.stability import seed_groups, stability_table
from sae.dictionary import Dictionary, DictionaryConfig, TopK

D, D_SAE = 64, 256
Member = dict[str, Artifact]
Make = Callable[..., Member]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A trained dictionary whose decoder rows are those of `rows_of`, in an order of its seed."""

    def made(seed: int, rows_of: int, l0: int = 16, **more: Any) -> Member:
        path = tmp_path / f"{seed}-{rows_of}-{l0}"
        dictionary = Dictionary(DictionaryConfig(d_in=D, d_out=D, d_sae=D_SAE, activation=TopK(k=4)))
        rows = torch.randn(D_SAE, D, generator=torch.Generator().manual_seed(rows_of))
        order = torch.randperm(D_SAE, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            dictionary.W_dec.copy_(rows[order])
        dictionary.save(path)
        section = {"l0": l0, "seed": seed, "data_seed": 0, "d_sae": D_SAE, **more}
        manifest = {
            "kind": "dictionaries",
            "hash": f"{seed:08d}{l0:08d}",
            "inputs": {"section": section, "keys": {}},
            "parents": {"harvest": "a" * 16},
            "metrics": {},
        }
        return {"train": Artifact(path, manifest)}

    return made


def test_members_that_differ_in_the_seed_alone_are_a_group(make: Make) -> None:
    members = [make(seed, rows_of, l0) for l0 in (16, 32) for seed, rows_of in ((0, 1), (1, 1), (2, l0))]
    groups = seed_groups(members)
    assert [(group.name, group.seeds) for group in groups] == [("l0 = 16", (0, 1, 2)), ("l0 = 32", (0, 1, 2))]
    for group in groups:
        assert group.stability.share.value == pytest.approx(1 / 3)
        assert group.n_dead == 0
        assert not group.knows_dead


def test_another_order_of_data_or_other_activations_are_no_group(make: Make) -> None:
    other = make(1, 1)
    other["train"].manifest["parents"] = {"harvest": "b" * 16}
    assert seed_groups([make(0, 1), other]) == ()
    assert seed_groups([make(0, 1), make(1, 1, data_seed=1)]) == ()


def test_one_seed_shows_nothing(make: Make, settings: dict[str, Any]) -> None:
    members = [make(0, 1), make(0, 1, 32)]
    assert seed_groups(members) == ()
    assert stability_table(()) is None
    assert headline(members) == headline(members[:1]) == {}
    said = io.StringIO()
    show(members, said)
    assert "Stability" not in said.getvalue()
    assert 'id="stability"' not in report("Test", 0, members, settings).html


def test_a_group_stands_on_the_terminal_in_the_json_and_on_the_page(make: Make, settings: dict[str, Any]) -> None:
    members = [make(0, 1), make(1, 1), make(2, 1)]
    (group,) = headline(members)["stability"]
    assert group["seeds"] == [0, 1, 2]
    assert group["share"] == {"value": 1.0, "low": 1.0, "high": 1.0, "detectable": None}
    assert group["chance_share"] == 0
    assert group["resampled"] == "seeds"
    assert group["n_dead_left_out"] is None
    said = io.StringIO()
    show(members, said)
    assert "Stability across seeds" in said.getvalue()
    assert "bootstrap over seeds" in " ".join(said.getvalue().split())
    html = report("Test", 0, members, settings).html
    assert html.count('id="stability"') == 1
    assert "▲ above chance" in html
    assert "no catalogue tells them" in html


def test_dead_latents_are_left_out_where_a_catalogue_tells_them(run: Member, make: Make) -> None:
    """Nine latents of the catalogue never fire."""
    groups = seed_groups([{**make(seed, seed), "catalogue": run["catalogue"]} for seed in (0, 1)])
    (group,) = groups
    assert group.stability.n_latents == (D_SAE - 9, D_SAE - 9)
    assert group.n_dead == 18
    table = stability_table(groups)
    assert table is not None
    assert table.rows[0].dead == "18 dead left out"
    assert "one pair of seeds" in table.interval
