"""The benchmark stays alive: a quick run of ours gives its rows, whatever they say; who never fires is counted,
of a peer too."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_models import fires, scores
from peers.learning import begin, write
from peers.quality import Recorded

from sae.dictionary import Dictionary, DictionaryConfig, TopK

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_models.py"


def test_quick_run_gives_the_rows_and_is_not_made_again(tmp_path: Path) -> None:
    file, runs = tmp_path / "rows.json", tmp_path / "runs"
    runs.mkdir()
    command = [sys.executable, str(SCRIPT), "--quick", "--presets", "topk", "--json", str(file), "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows.keys() == {
        f"quick_topk_{n}" for n in ("dead_fraction", "l0", "never_fraction", "fvu_default", "fvu_best")
    }
    assert rows["quick_topk_never_fraction"]["value"] <= rows["quick_topk_dead_fraction"]["value"]
    assert 0 < rows["quick_topk_fvu_default"]["value"] < 1
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.stdout == done.stdout
    assert "quick ours/topk" in done.stderr
    assert "quick ours/topk" not in again.stderr


def test_only_who_fires_in_no_part_never_fires() -> None:
    dictionary = Dictionary(DictionaryConfig(d_in=4, d_out=4, d_sae=4, activation=TopK(k=1)))
    for value in dictionary.state_dict().values():
        value.copy_(torch.eye(4) if value.ndim == 2 else torch.zeros_like(value))
    parts = [torch.eye(4)[[0]], torch.eye(4)[[2, 2]]]
    assert fires(dictionary, parts).tolist() == [True, False, True, False]
    assert fires(dictionary, parts[:1]).tolist() == [True, False, False, False]


def test_what_a_peer_wrote_counts_as_what_it_is(tmp_path: Path) -> None:
    """Its own program writes codes and reconstructions, and who fires at further rows: the same as reading with it."""
    torch.manual_seed(0)
    dictionary = Dictionary(DictionaryConfig(d_in=4, d_out=4, d_sae=12, activation=TopK(k=1)))
    for value in dictionary.state_dict().values():
        value.copy_(torch.randn(value.shape))
    x, more = torch.randn(1100, 4), 0.2 * torch.randn(3000, 4)
    said = {"device": "cpu", "found": str(tmp_path / "found.npz")}
    for name, rows in (("test", x), ("more", more)):
        np.save(tmp_path / f"{name}.npy", rows.numpy())
        said[name] = str(tmp_path / f"{name}.npy")
    begin()
    write(
        said,
        dictionary.W_dec,
        lambda x: dictionary.encode(x).dense(),
        lambda z: z @ dictionary.W_dec + dictionary.b_dec,
    )
    recorded = Recorded(tmp_path)
    assert torch.equal(recorded.fired, fires(dictionary, [more]))
    assert not recorded.fired.all()
    assert scores(recorded, x) == pytest.approx(scores(dictionary, x), rel=1e-5)
