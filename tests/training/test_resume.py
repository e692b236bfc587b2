"""A run that is killed and resumed equals the uninterrupted one bit for bit."""

import json
from pathlib import Path

import pytest
import torch

import sae
from sae.core.errors import InputError
from sae.core.metrics import JsonLines
from sae.synthetic import Synthetic, SyntheticConfig
from sae.training import State, TrainConfig, checkpoint, cut_back, dead, initial, loop, result
from sae.training.snapshot import tensors_of, values_of
from tests.training.presets import TRAINED, places_of

CONFIG = TrainConfig(
    d_sae=48, l0=4, tokens=30 * 64, batch=64, dead_after_tokens=128, log_every_steps=3, learning_rate=3e-3
)
DATA = Synthetic(SyntheticConfig(d=12, n_directions=24, l0=3), batch=64)


def start(config: TrainConfig = CONFIG) -> State:
    return initial(DATA.batch(10_000), config, places_of(config))


def run(folder: Path, until: int, config: TrainConfig = CONFIG) -> State:
    """Starts or resumes in `folder`, as a pipeline does, and is killed after step `until`."""
    found = checkpoint.latest(folder / "checkpoints", config)
    state = found.state or start(config)
    cut_back(folder / "metrics.jsonl", state.step)
    with JsonLines(folder / "metrics.jsonl") as sink:
        for progress in loop(state, DATA, config):
            if progress.metrics:
                sink.record(progress.step, progress.metrics)
            if progress.step % 5 == 0:
                checkpoint.save(state, config, folder / "checkpoints")
            if progress.step == until:
                break
    return state


def assert_equal_bits(a: State, b: State) -> None:
    assert values_of(a) == values_of(b)
    mine, theirs = tensors_of(a), tensors_of(b)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


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


@pytest.mark.parametrize(("preset", "moments"), [*((preset, "float32") for preset in TRAINED), ("topk", "bfloat16")])
def test_every_preset_resumes_to_the_same_bits(tmp_path, preset, moments):
    config = CONFIG.model_copy(update={"preset": preset, "moments": moments})
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = run(tmp_path / "whole", 30, config)
    for step in (8, 17, 24):
        run(tmp_path / "killed", step, config)
    assert_equal_bits(run(tmp_path / "killed", 30, config), whole)
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    loaded, x = sae.load(tmp_path / "killed" / "checkpoints" / "step-000000030"), DATA.batch(77)
    assert torch.equal(loaded(x[:, : loaded.d_in]), result(whole)(x[:, : loaded.d_in]))


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


def test_milestones_stay_beside_the_newest_two(tmp_path):
    state, folder = start(), tmp_path / "checkpoints"
    for progress in loop(state, DATA, CONFIG):
        if progress.step % 5 == 0:
            checkpoint.save(state, CONFIG, folder, milestone=progress.step in (10, 30))
    assert [checkpoint.step_of(path) for path in checkpoint.newest_first(folder)] == [30, 25, 10]
    found = checkpoint.latest(folder, CONFIG)
    assert found.state is not None
    assert_equal_bits(found.state, state)
    checkpoint.keep_milestones(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["step-000000010", "step-000000030"]
    for path in checkpoint.newest_first(folder):
        (path / "state.json").write_text("{")  # damaged: it cannot say that it is one
    checkpoint.keep_milestones(folder)
    assert not folder.exists()


def test_every_checkpoint_loads_for_inference(tmp_path):
    state = run(tmp_path, until=25)
    x = DATA.batch(77)
    for path in checkpoint.newest_first(tmp_path / "checkpoints"):
        there, _ = checkpoint.read(path, CONFIG)
        assert torch.equal(sae.load(path)(x), result(there)(x))
    newest = sae.load(checkpoint.newest_first(tmp_path / "checkpoints")[0])
    torch.testing.assert_close(newest(x) * state.scale, state.dictionary(x * state.scale), rtol=1e-5, atol=1e-5)


def test_a_checkpoint_of_the_same_step_takes_the_place_of_the_one_before(tmp_path):
    state = run(tmp_path, until=10)
    checkpoint.save(state, CONFIG, tmp_path / "checkpoints", milestone=True)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000005", "step-000000010"]
    assert checkpoint.is_milestone(tmp_path / "checkpoints" / names[1])


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


def test_a_changed_number_in_the_record_is_damage_and_makes_room(tmp_path: Path) -> None:
    """The run's next checkpoint stays, though its step is lower."""
    config = TrainConfig(d_sae=32, l0=4, tokens=640, batch=64)
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
    state = initial(x, config)
    for step in (5, 7):
        state.step = step
        record = checkpoint.save(state, config, tmp_path) / "state.json"
        record.write_text(record.read_text().replace('"l0": 4', '"l0": 5'))
    found = checkpoint.latest(tmp_path, config)
    assert found.state is None
    assert len(found.notices) == 2
    assert all("is damaged" in notice for notice in found.notices)
    state.step = 3
    kept = checkpoint.save(state, config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    assert checkpoint.latest(tmp_path, config).state is not None


def test_what_is_counted_of_dead_latents_is_in_no_checkpoint_and_counted_again_after_other_tokens():
    state = run_steps(start(), 12)
    assert state.n_dead is not None
    assert "n_dead" not in values_of(state)
    assert dead.known(state.n_dead, state.tokens_since_fired, 128) == state.n_dead.n
    assert dead.known(state.n_dead, state.tokens_since_fired, 64) is None
    state.tokens_since_fired[0] += 1
    assert dead.known(state.n_dead, state.tokens_since_fired, 128) is None


def run_steps(state: State, n_steps: int) -> State:
    for progress in loop(state, DATA, CONFIG):
        if progress.step == n_steps:
            break
    return state
