"""A run that is killed and resumed equals the uninterrupted one bit for bit."""

import json
from pathlib import Path

import pytest
import torch

from sae.core.errors import InputError
from sae.core.metrics import JsonLines
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import State, TrainConfig, checkpoint, cut_back, initial, loop

CONFIG = TrainConfig(
    d_sae=48, l0=4, tokens=30 * 64, batch=64, dead_after_tokens=128, log_every_steps=3, learning_rate=3e-3
)
DATA = Synthetic(SyntheticConfig(d=12, n_directions=24, l0=3), batch=64)


def start() -> State:
    return initial(DATA.batch(10_000), CONFIG)


def run(folder: Path, until: int, save_every: int = 5) -> State:
    """Starts or resumes in `folder`, as a pipeline does, and is killed after step `until`."""
    found = checkpoint.latest(folder / "checkpoints", CONFIG)
    state = found.state or start()
    cut_back(folder / "metrics.jsonl", state.step)
    with JsonLines(folder / "metrics.jsonl") as sink:
        for progress in loop(state, DATA, CONFIG):
            if progress.metrics:
                sink.record(progress.step, progress.metrics)
            if progress.step % save_every == 0:
                checkpoint.save(state, CONFIG, folder / "checkpoints")
            if progress.step == until:
                break
    return state


def bits(state: State) -> dict[str, torch.Tensor]:
    return checkpoint._tensors(state)


def assert_equal_bits(a: State, b: State) -> None:
    assert (a.step, a.n_tokens, a.scale) == (b.step, b.n_tokens, b.scale)
    assert bits(a).keys() == bits(b).keys()
    for name, value in bits(a).items():
        assert torch.equal(value, bits(b)[name]), name


def history(folder: Path) -> list[dict]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k != "tokens_per_second"} for r in records]


@pytest.mark.parametrize("kills", [[1], [4], [5], [6], [29], [7, 7, 13, 22]])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, kills):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = run(tmp_path / "whole", until=30)
    for step in kills:
        run(tmp_path / "killed", until=step)
    assert_equal_bits(run(tmp_path / "killed", until=30), whole)
    assert history(tmp_path / "killed") == history(tmp_path / "whole")


def test_a_checkpoint_before_the_first_step(tmp_path):
    state = start()
    checkpoint.save(state, CONFIG, tmp_path)
    found = checkpoint.latest(tmp_path, CONFIG)
    assert found.notices == ()
    assert found.state is not None
    assert_equal_bits(found.state, state)


def test_the_newest_two_stay_and_nothing_else(tmp_path):
    run(tmp_path, until=30)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000000025", "step-000000030"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "json", "missing", "empty"])
def test_a_damaged_newest_checkpoint_falls_back(tmp_path, damage):
    whole = run(tmp_path, until=30)
    newest = tmp_path / "checkpoints" / "step-000000030"
    content = (newest / "state.safetensors").read_bytes()
    match damage:
        case "truncate":
            (newest / "state.safetensors").write_bytes(content[:-1])
        case "flip":
            (newest / "state.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "json":
            (newest / "state.json").write_text("{")
        case "missing":
            (newest / "state.json").unlink()
        case _:
            (newest / "state.json").write_text("[]")
    found = checkpoint.latest(tmp_path / "checkpoints", CONFIG)
    assert found.state is not None
    assert found.state.step == 25
    assert "step-000000030" in found.notices[0]
    assert_equal_bits(run(tmp_path, until=30), whole)


def test_nothing_whole_is_a_fresh_start_with_notices(tmp_path):
    assert checkpoint.latest(tmp_path / "nowhere", CONFIG) == (None, ())
    (tmp_path / "step-000000005").mkdir()
    found = checkpoint.latest(tmp_path, CONFIG)
    assert found.state is None
    assert len(found.notices) == 1


def test_another_configuration_is_refused_but_not_another_interval(tmp_path):
    checkpoint.save(start(), CONFIG, tmp_path)
    with pytest.raises(InputError, match="clip, l0 differ"):
        checkpoint.latest(tmp_path, CONFIG.model_copy(update={"l0": 5, "clip": 2.0}))
    assert checkpoint.latest(tmp_path, CONFIG.model_copy(update={"checkpoint_every_tokens": 1})).state is not None


def test_another_machine_is_announced(tmp_path, monkeypatch):
    checkpoint.save(start(), CONFIG, tmp_path)
    here = checkpoint.environment()
    monkeypatch.setattr(checkpoint, "environment", lambda: here | {"threads": 77})
    assert any("threads" in notice and "77" in notice for notice in checkpoint.latest(tmp_path, CONFIG).notices)


def test_history_is_cut_at_the_step_and_at_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert cut_back(path, 10) == 0
    path.write_text('{"step": 5}\n{"step": 10}\n{"step": 15}\n')
    assert cut_back(path, 10) == 2
    path.write_text('{"step": 5}\n{"step": 1')
    assert cut_back(path, 10) == 1
    assert path.read_text() == '{"step": 5}\n'
