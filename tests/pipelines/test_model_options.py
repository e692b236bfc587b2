"""How the model is held: recorded in the manifest; placement shares artifacts, quantisation does not."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Experiment, check
from pipelines.experiment import Run
from pipelines.sweep import sweep_members
from sae.core.artifact import Store
from sae.core.errors import InputError


def experiment(**model_options: Any) -> Experiment:
    raw = {"text": {"max_tokens": 20_000}, "harvest": {"window": 64, "batch": 16}, "model_options": model_options}
    return check(raw, "the test")


def test_placement_is_recorded_and_shares_the_artifact(tmp_path: Path) -> None:
    if importlib.util.find_spec("accelerate") is None:
        pytest.skip("device maps need accelerate, which is not installed")
    store = Store(tmp_path)
    spread = experiment(device_map="auto", max_memory={"cpu": "1GiB"})
    (first,) = Run(spread, store).run(["harvest"], with_parents=False)
    assert first.artifact.manifest["model_options"] == spread.model_options.model_dump(mode="json")
    assert first.artifact.manifest["inputs"]["keys"]["model_options"] == {
        "bitsandbytes": {},
        "family": None,
        "trust_remote_code": False,
    }
    (again,) = Run(experiment(), store).run(["harvest"], with_parents=False)
    assert again.reused


def test_options_survive_a_sweep() -> None:
    options = {"max_memory": {0: "2GiB", "cpu": "1GiB"}, "device_map": {"model": 0, "lm_head": "cpu"}}
    written = experiment(**options).model_dump(mode="json", by_alias=True, exclude_none=True)
    (member,) = sweep_members(check({**written, "train": {"preset": "topk"}}, "the test"))
    assert member.model_options.device_map == {"model": 0, "lm_head": "cpu"}
    assert set(map(str, member.model_options.max_memory)) == {"0", "cpu"}


def test_unknown_options_suggest_the_right_word() -> None:
    with pytest.raises(InputError, match=r"unknown key 'model_options\.device_maps'; did you mean 'device_map'"):
        experiment(device_maps="auto")
    with pytest.raises(InputError, match=r"model_options\.max_memory"):
        experiment(max_memory="1GiB")
