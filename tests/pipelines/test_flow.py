"""The whole flow, small: every stage publishes what it promises, equal work is reused, sweeps give members."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sae.core.artifact import damaged_files, open_artifact
from sae.core.records import read_findings
from sae.microworld import VARIABLES
from tests.pipelines.conftest import SIZES, SMALL, Sae

KINDS = {
    "harvest": "activations",
    "train": "dictionaries",
    "evaluate": "evaluations",
    "catalogue": "catalogues",
    "probe": "findings",
    "steer": "findings",
    "validate": "findings",
    "report": "reports",
}


def test_every_stage_publishes_a_whole_artifact(quickstart: dict[str, Any], store: Path) -> None:
    assert list(quickstart["artifacts"]) == list(KINDS)
    for stage, path in quickstart["artifacts"].items():
        artifact = open_artifact(Path(path))
        assert artifact.path.parent == store / KINDS[stage]
        assert damaged_files(artifact) == []
        assert artifact.manifest["inputs"]["stage"] == stage
    assert not any((store / ".building").glob("*/"))


def test_the_scorecard_stands_beside_its_baselines(quickstart: dict[str, Any]) -> None:
    scores = json.loads((Path(quickstart["artifacts"]["evaluate"]) / "scores.json").read_text())
    assert set(scores["contenders"]) >= {"dictionary", "untrained", "pca", "mean_ablation", "zero_ablation"}
    fvu = quickstart["scorecard"]["fvu"]
    assert fvu["low"] < fvu["value"] < fvu["high"]
    assert fvu["value"] < scores["contenders"]["untrained"]["fvu"]["value"]
    assert quickstart["scorecard"]["l0"]["value"] == pytest.approx(8, abs=0.5)


def test_labels_say_what_few_latents_tell_and_which_classes_are_absorbed(quickstart: dict[str, Any]) -> None:
    scores = json.loads((Path(quickstart["artifacts"]["evaluate"]) / "scores.json").read_text())
    assert [one["variable"] for one in scores["probing"]] == list(VARIABLES)
    own = scores["contenders"]["dictionary"]
    told = [one["accuracies"]["dictionary"]["sparse_5"]["value"] for one in scores["probing"]]
    assert own["sparse_5_accuracy"]["value"] == pytest.approx(sum(told) / len(told))
    assert own["sparse_5_accuracy"]["low"] > 0.5
    classes = scores["absorption"]["dictionary"]["classes"]
    assert {one["level"] for one in classes} == {"kingdom", "class", "leaf"}
    found = [one["absorbed"]["value"] for one in classes if one["is_found"]]
    assert len(found) == scores["absorption"]["dictionary"]["n_found"] > 0
    assert own["absorbed_fraction"]["value"] == pytest.approx(sum(found) / len(found))
    assert own["absorbed_fraction"]["value"] <= scores["absorption"]["dictionary"]["silent"]["value"] <= 1


@pytest.mark.parametrize("stage", ["probe", "steer", "validate"])
def test_claims_are_findings_with_control_and_interval(quickstart: dict[str, Any], stage: str) -> None:
    findings = read_findings(Path(quickstart["artifacts"][stage]) / "findings.jsonl")
    assert findings
    for finding in findings:
        assert finding.interval is not None
        assert finding.interval.low <= finding.interval.high
        assert finding.control.what
        assert finding.n_documents > 1


def test_a_second_run_reuses_everything_and_says_so(quickstart: dict[str, Any], sae_here: Sae, store: Path) -> None:
    again = sae_here("run", "quickstart", *SMALL, "--store", store)
    assert again["reused"]
    assert again["artifacts"] == quickstart["artifacts"]
    assert again["said"].count("reused") >= len(KINDS)


def test_a_changed_key_remakes_only_what_depends_on_it(quickstart: dict[str, Any], sae_here: Sae, store: Path) -> None:
    seeds = ["--seed", "1", "--train.seed", "0", "--train.data_seed", "0"]
    changed = sae_here("catalogue", "quickstart", *SMALL, *seeds, "--store", store, "--with-parents")
    assert not changed["reused"]
    assert len(list((store / "activations").iterdir())) == 1
    assert len(list((store / "dictionaries").iterdir())) == 1


def test_how_it_runs_does_not_change_the_hash(quickstart: dict[str, Any], sae_here: Sae, store: Path) -> None:
    words = ["--train.checkpoint_every_tokens", "50_000", "--harvest.batch", "8", "--device", "cpu"]
    assert sae_here("train", "quickstart", *SMALL, *words, "--store", store)["reused"]


def test_a_sweep_trains_members_as_if_alone(quickstart: dict[str, Any], sae_here: Sae, store: Path) -> None:
    swept = sae_here("train", "quickstart", *SMALL, "--train.sweep", "{l0: [8, 4]}", "--store", store)
    assert len(swept["paths"]) == 2
    assert swept["path"] == swept["paths"][0] == quickstart["artifacts"]["train"]


def test_a_damaged_artifact_is_found(quickstart: dict[str, Any], sae_here: Sae, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(quickstart["artifacts"]["train"], folder)
    assert sae_here("verify", folder)["damaged"] == []
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    done = sae_here("verify", folder)
    assert done["status"] == 1
    assert done["damaged"] == ["weights.safetensors"]
    assert "weights.safetensors is damaged" in done["said"]


def test_the_flow_runs_on_a_real_model(sae: Sae, shared: Path, tmp_path: Path) -> None:
    environment = {
        "STORIES_MODEL": str(shared / "models" / "stories260K"),
        "STORIES_TEXT": str(shared / "data" / "stories"),
    }
    done = sae("run", "stories", *SIZES, "--store", tmp_path, **environment)
    assert list(done["artifacts"]) == list(KINDS)
    page = (Path(done["artifacts"]["report"]) / "report.html").read_text()
    assert "gender" in page
