"""`sae health` says of the harvest of a run what its health.json says, and refuses what is no harvest."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from sae.activations import health

TOPICS = {"mean", "sinks", "scale"}


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(words)
    said = capsys.readouterr()
    return exit.value.code, said.out, said.err


def test_it_prints_a_table_and_gives_findings(quickstart: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    harvest = quickstart["artifacts"]["harvest"]
    (site, found), *_ = health.read(Path(harvest)).sites.items()
    status, out, err = run(capsys, "health", harvest)
    assert (status, err) == (0, "")
    for part in (site, f"{found.n_rows:,}", f"{found.gamma:.3g}", f"{found.norms.p50:.3g}", "mean: γ", "sinks: No row"):
        assert part in out
    status, out, err = run(capsys, "health", harvest, "--json")
    said = json.loads(out)
    assert status == 0
    assert "Health of the train split" in err
    assert (said["stage"], said["path"], said["reused"]) == ("health", harvest, False)
    assert {finding["topic"] for finding in said["findings"]} >= TOPICS
    for finding in said["findings"]:
        assert finding["site"] == site
        assert finding["level"] in ("fine", "note", "trouble")
        assert finding["words"] in " ".join(err.split())


def test_what_is_no_harvest_is_refused(
    quickstart: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, message in (
        (quickstart["artifacts"]["train"], "holds dictionaries; sae health takes a folder of activations"),
        (str(tmp_path), "is no artifact"),
        (str(tmp_path / "nowhere"), "is no artifact"),
    ):
        status, out, err = run(capsys, "health", folder)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert message in err
    status, _, err = run(capsys, "health")
    assert status == 2
    assert "needs an artifact's folder" in err
