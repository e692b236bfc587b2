"""The stage *train* in one process: members of a sweep, kills, milestones, validation, logs, and what is refused."""

import importlib
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sae
from pipelines import train
from pipelines.train import Job, TrainConfig
from sae.activations.reader import Activations
from sae.core.artifact import Artifact
from sae.core.errors import InputError, WorldError
from sae.core.measures import fvu
from sae.training import validation_scores
from tests.activations.conftest import write
from tests.activations.test_harvest_stage import Heard

CONFIG = TrainConfig(
    site="embed", d_sae=16, l0=2, tokens=4000, batch=100, seed=0, data_seed=0, log_every_steps=3,
    learning_rate=1e-3, checkpoint_every_tokens=500, validate_every_tokens=1000,
)  # fmt: skip
MEMBERS = [CONFIG.model_copy(update={"l0": l0, "seed": seed}) for l0 in (1, 2) for seed in (0, 1)]
TIMES = ("tokens_per_second", "peak_memory_bytes")


class KilledError(Exception):
    """What ends a run at once."""


class Mortal(Heard):
    """A progress that is killed when it is told something for the n-th time."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._n = n

    def update(self, done: int, total: int, unit: str, **values: float) -> None:
        super().update(done, total, unit, **values)
        if len(self.done) == self._n:
            raise KilledError


@pytest.fixture(scope="module")
def harvest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harvest")
    write(folder, n_documents=200, length=10, sites={"embed": 8, "final": 6}, encoding="float32", shard_rows=1000)
    return folder


@pytest.fixture
def together(harvest: Path) -> Callable[..., dict[int, dict[str, Any]]]:
    """Trains configurations side by side in numbered folders; the metrics of those that end."""

    def run(configs: Sequence[TrainConfig], root: Path, progress: Heard | None = None) -> dict[int, dict[str, Any]]:
        inputs: Any = SimpleNamespace(
            parents={"harvest": Artifact(harvest, {"files": {}})}, model_fingerprint=lambda: "0" * 64
        )
        heard, done = progress or Heard(), {}
        jobs = [Job(config, root / f"{i}", heard) for i, config in enumerate(configs)]
        for job in jobs:
            job.folder.mkdir(parents=True, exist_ok=True)
        for number, metrics in train.together(jobs, inputs, heard):
            done[number] = metrics
        return done

    return run


def records(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in folder.rglob("*")
        if f.is_file() and f.name != "metrics.jsonl"
    }


def assert_same(a: Path, b: Path) -> None:
    assert files(a) == files(b)
    assert records(a) == records(b)


def test_members_are_what_each_is_alone_to_the_byte(tmp_path: Path, together: Any) -> None:
    swept = together(MEMBERS, tmp_path / "swept")
    assert len({(tmp_path / "swept" / f"{i}" / "weights.safetensors").read_bytes() for i in range(4)}) == 4
    for number in (0, 3):
        alone = together([MEMBERS[number]], tmp_path / f"alone {number}")
        assert alone[0] == swept[number]
        assert_same(tmp_path / f"alone {number}" / "0", tmp_path / "swept" / f"{number}")


def test_training_from_python_gives_the_same_bits(tmp_path: Path, together: Any, harvest: Path) -> None:
    together([CONFIG], tmp_path)
    stage, activations = sae.load(tmp_path / "0").state_dict(), Activations(harvest)
    for given in (activations, activations.rows("train", "embed")):
        for name, value in sae.train(given, CONFIG).finish().state_dict().items():
            assert torch.equal(value, stage[name])
    with pytest.raises(InputError, match="site must name one of the harvested sites: embed, final"):
        sae.train(activations, CONFIG.model_copy(update={"site": None}))
    with pytest.raises(InputError, match=r"batch 2000 is larger than the train split of .* 1800 rows"):
        sae.train(activations, CONFIG.model_copy(update={"batch": 2000}))


@pytest.mark.parametrize("kills", [[2], [3, 7, 9]])
def test_a_killed_sweep_ends_with_the_same_bytes_and_records(tmp_path: Path, together: Any, kills: list[int]) -> None:
    """Members that resume from different steps, or that one run trained further alone, catch up."""
    together([CONFIG, MEMBERS[3]], tmp_path / "whole")
    for n in kills:
        with pytest.raises(KilledError):
            together([CONFIG, MEMBERS[3]], tmp_path / "killed", Mortal(n))
    with pytest.raises(KilledError):
        together([CONFIG], tmp_path / "killed", Mortal(2))
    heard = Heard()
    together([CONFIG, MEMBERS[3]], tmp_path / "killed", heard)
    assert any("resuming at step" in said for said in heard.said)
    for number in ("0", "1"):
        assert_same(tmp_path / "killed" / number, tmp_path / "whole" / number)
        steps = [record["step"] for record in records(tmp_path / "whole" / number)]
        assert steps == [0, *range(3, 40, 3), 40]


def test_validation_is_logged_when_due_and_touches_nothing(tmp_path: Path, together: Any, harvest: Path) -> None:
    seldom = CONFIG.model_copy(update={"validate_every_tokens": 10**9})
    metrics = together([CONFIG], tmp_path / "often")[0]
    together([seldom], tmp_path / "seldom")
    assert files(tmp_path / "often") == files(tmp_path / "seldom")
    due = [r["step"] for r in records(tmp_path / "often" / "0") if "validation_fvu" in r]
    assert due == [12, 21, 30, 40]
    assert [r["step"] for r in records(tmp_path / "seldom" / "0") if "validation_fvu" in r] == [40]
    rows = Activations(harvest).sample("validation", "embed", train.N_VALIDATION)
    scores = validation_scores(sae.load(tmp_path / "often" / "0"), rows)
    assert scores == {k: v for k, v in records(tmp_path / "often" / "0")[-1].items() if k.startswith("validation_")}
    assert metrics["last_validation_fvu"] == scores["validation_fvu"]
    assert scores["validation_n_tokens"] == len(rows) == 100
    assert scores["validation_fvu"] == pytest.approx(fvu(rows, sae.load(tmp_path / "often" / "0")(rows).detach()))


def test_milestones_stay_for_good_and_load_as_they_are(tmp_path: Path, together: Any) -> None:
    config = CONFIG.model_copy(update={"milestone_every_tokens": 1500})
    together([config], tmp_path / "with")
    together([CONFIG], tmp_path / "without")
    kept = sorted((tmp_path / "with" / "0" / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-000000015", "step-000000030"]
    assert not (tmp_path / "without" / "0" / "checkpoints").exists()
    for path in kept:
        assert sae.load(path).config == sae.load(tmp_path / "with" / "0").config
    weights = [(path / "weights.safetensors").read_bytes() for path in (*kept, tmp_path / "with" / "0")]
    assert len(set(weights)) == 3
    assert weights[-1] == (tmp_path / "without" / "0" / "weights.safetensors").read_bytes()


def test_records_hold_terms_norms_rate_and_memory(tmp_path: Path, together: Any) -> None:
    together([CONFIG], tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "0" / "metrics.jsonl").read_text().splitlines()]
    assert {"shuffle_quality", "batch_mean_autocorrelation"} < set(lines[0])
    names = {name for name, _ in sae.load(tmp_path / "0").named_parameters()}
    wanted = {"loss", "fvu", "l0", "dead_window_fraction", "gradient_norm", "learning_rate", *TIMES}
    for record in lines[1:]:
        assert wanted | {f"{name}_norm" for name in names} <= set(record)
        assert record["tokens_per_second"] > 0
        assert record["peak_memory_bytes"] > 1e6
    last = {name: float(p.detach().norm()) for name, p in sae.load(tmp_path / "0").named_parameters()}
    assert lines[-1]["W_dec_norm"] == pytest.approx(last["W_dec"], rel=1e-5)


def test_a_control_has_one_record_with_its_scores(tmp_path: Path, together: Any) -> None:
    metrics = together([CONFIG.model_copy(update={"preset": "pca"})], tmp_path)[0]
    (only,) = records(tmp_path / "0")
    assert only["step"] == 0
    assert {"shuffle_quality", "validation_fvu", "validation_l0"} < set(only)
    assert metrics["last_validation_fvu"] == only["validation_fvu"]


def test_an_l0_that_a_short_run_misses_is_said_and_kept(tmp_path: Path, together: Any) -> None:
    heard, short = Heard(), CONFIG.model_copy(update={"preset": "relu", "tokens": 300, "l0": 4})
    metrics = together([short, CONFIG], tmp_path, heard)
    error = metrics[0]["last_validation_l0"] / 4 - 1
    assert metrics[0]["l0_error"] == error
    assert abs(error) > 0.05
    (said,) = [line for line in heard.said if line.startswith("l0 on validation")]
    assert f"{error:+.0%} from the 4 asked for, after 3 steps" in said
    assert "l0_error" not in metrics[1]


def test_a_member_that_diverges_names_step_place_and_last_good_checkpoint(tmp_path: Path, together: Any) -> None:
    wild = CONFIG.model_copy(update={"learning_rate": 1e38, "clip": 1e30, "beta1": 0.9})
    early = wild.model_copy(update={"checkpoint_every_tokens": 100})
    late = early.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(WorldError) as error:
        together([CONFIG, wild, early, late], tmp_path)
    saved, first, second = str(error.value).split("; the loss is nan at step 1 (tokens 100 to 200 of the stream)")
    assert saved.startswith("the weights are not finite after step 1 (dictionary.")
    assert all(said.endswith("no checkpoint was written before") for said in (saved, first))
    assert second.endswith(f"the last good checkpoint is {tmp_path / '3' / 'checkpoints' / 'step-000000001'}")
    assert (tmp_path / "0" / "weights.safetensors").is_file()
    assert not (tmp_path / "1" / "weights.safetensors").exists()


def test_a_batch_larger_than_the_split_is_refused(tmp_path: Path, together: Any) -> None:
    with pytest.raises(InputError, match=r"train.batch 2000 is larger than the train split of .* 1800 rows"):
        together([CONFIG.model_copy(update={"batch": 2000})], tmp_path)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path, together: Any) -> None:
    with pytest.raises(InputError, match="device 'cuda:99' is not available here"):
        together([CONFIG.model_copy(update={"device": "cuda:99"})], tmp_path)


def test_a_damaged_harvest_is_refused(tmp_path: Path) -> None:
    write(tmp_path, n_documents=50, length=10, sites={"embed": 8}, encoding="float32", shard_rows=1000)
    shard = tmp_path / "train-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-200])
    inputs: Any = SimpleNamespace(parents={"harvest": Artifact(tmp_path, {"files": {}})}, model_fingerprint=str)
    with pytest.raises(WorldError, match=r"train-00000.h5"):
        train.run(CONFIG, inputs, tmp_path / "run", Heard())


def test_wandb_is_a_second_log_of_the_same_numbers(tmp_path: Path, together: Any) -> None:
    """Offline; two members at once; a killed run goes on."""
    pytest.importorskip("wandb")
    configs = [c.model_copy(update={"wandb": "offline", "tokens": 1500}) for c in MEMBERS[:2]]
    root = tmp_path / "store" / ".building"
    with pytest.raises(KilledError):
        together(configs, root, Mortal(5))
    together(configs, root)
    together([c.model_copy(update={"wandb": "off"}) for c in configs], tmp_path / "plain")
    for number in ("0", "1"):
        assert_same(root / number, tmp_path / "plain" / number)
        logs = sorted((tmp_path / "store" / "wandb").glob(f"offline-run-*-{number}/*.wandb"))
        assert len(logs) == 2
        for record in records(root / number)[1:]:
            assert any(_logged(log).get(int(record["step"])) == record["fvu"] for log in logs)


def _logged(log: Path) -> dict[int, float]:
    """FVU by step in wandb's own file."""
    wandb_internal_pb2: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    found = {}
    for data in _leveldb_records(log.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
        if "fvu" in items:
            found[record.history.step.num] = json.loads(items["fvu"])
    return found


def _leveldb_records(content: bytes) -> Iterator[bytes]:
    """LevelDB's log format: blocks of 32 KiB of chunks (checksum, length, type 1 whole, 2 first, 3 middle, 4 last)."""
    at, record = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def test_the_validation_scores_are_those_of_the_whole_sample() -> None:
    dictionary = sae.training.untrained(torch.randn(100, 8), TrainConfig(d_sae=16, l0=2))
    x = torch.randn(5000, 8)
    code = dictionary.encode(x)
    scores = validation_scores(dictionary, x)
    assert scores["validation_fvu"] == pytest.approx(fvu(x, dictionary(x).detach()))
    assert scores["validation_l0"] == float(code.l0().double().mean())
    assert scores["validation_dead_fraction"] == float((~code.fired()).double().mean())
