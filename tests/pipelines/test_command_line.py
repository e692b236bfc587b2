"""Bad input ends with status 2 and one line that says what, where and what is allowed; never with a traceback."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.cli import COMMANDS, main

Sae = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sae(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sae:
    """Runs `sae` in an empty folder; gives its status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAE_STORE", raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            main(words)
        out, err = capsys.readouterr()
        assert isinstance(exit.value.code, int)
        return exit.value.code, out, err

    return run


BAD = {
    "typo": ("train: {l00: 4}", "unknown key 'train.l00'; did you mean 'l0'?"),
    "typo at the top": ("sites: a", "unknown key 'sites'; did you mean 'site'?"),
    "nested typo": ("harvest: {exclude: {spceial: true}}", "did you mean 'special'?"),
    "broken": ("a: [1, 2\nb: 3", "is not valid YAML: line 2"),
    "empty": ("", "is empty"),
    "a list": ("[1, 2]", "holds a list"),
    "beyond a bound": (
        "train: {decay_fraction: 2}",
        "train.decay_fraction: Input should be less than or equal to 1, or",
    ),
    "another word": ("train: {narrow_fraction: half}", "or 'auto', got 'half'"),
    "no number": ("train: {preset: relu, broad: .nan}", "train.broad: Input should be a finite number, or 'auto'"),
    "a key twice": ("seed: 1\nseed: 2", "the key 'seed' stands twice"),
    "unset variable": ("model: ${NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE, which is not set"),
    "l0 above d_sae": ("train: {l0: 64, d_sae: 32}", "l0 64 is larger than d_sae 32"),
    "wrong type": ("train: {batch: many}", "train.batch"),
    "fractions": ("harvest: {fractions: {train: 0.5}}", "must sum to 1"),
    "unknown site": ("site: blocks.0.resid_pots\nharvest: {}", "did you mean 'blocks.0.resid_post'?"),
    "missing model": ("model: ./nowhere\nharvest: {}", "no model folder"),
    "missing text": ("text: {source: ./nowhere.txt}\nharvest: {}", "no text at"),
    "empty corpus": ("text: {source: ./empty.txt}\nharvest: {}", "is empty (key text.source)"),
    "missing concepts": ("concepts: ./nowhere.jsonl\nprobe: {}", "no file"),
    "unharvested site": ("train: {site: embed}", "is not harvested; the sites are"),
    "sweep of an unknown key": ("train: {sweep: {l00: [1]}}", "did you mean 'l0'?"),
    "sweep of nothing": ("train: {sweep: {l0: []}}", "train.sweep.l0 is empty"),
    "sweep of one value twice": ("train: {sweep: {l0: [8, 4, 8]}}", "train.sweep.l0 has a value twice"),
    "sweep of a sweep": ("train: {sweep: {sweep: [{l0: [1]}]}}", "a sweep cannot be swept"),
    "no train": ("evaluate: {}\nreport: {}", "has no section train: add one"),
    "no stage": ("seed: 1", "has no stage"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_a_wrong_file_is_one_line_and_status_2(sae: Sae, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "experiment.yaml").write_text(text)
    (tmp_path / "empty.txt").touch()
    status, _, err = sae("run", "experiment.yaml")
    said = [line for line in err.splitlines() if line.startswith("sae: ")]
    assert status == 2
    assert len(said) == 1
    assert message in said[0]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "quickstart"], "unknown command 'trian'; did you mean 'train'?"),
        (["run"], "needs a configuration"),
        (["run", "nowhere"], "does not exist; give a YAML file or one of gemma-2-2b"),
        (["run", "quickstart", "--train.l0"], "--train.l0 needs a value"),
        (["run", "quickstart", "--train.l0", "[1"], "no YAML value"),
        (["run", "quickstart", "twice"], "unexpected 'twice'"),
        (["run", "quickstart", "--seed.x", "1"], "'seed' is a value, not a section"),
        (["run", "quickstart", "--store", "/proc/none"], "cannot write to the store"),
        (["train", "quickstart"], "train needs harvest"),
        (["verify", "."], "is no artifact"),
        (["run", "quickstart", "--device", "abacus"], "device 'abacus' is not available"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(sae: Sae, words: list[str], message: str) -> None:
    status, _, err = sae(*words)
    assert status == 2
    assert message in err
    assert err.count("sae: ") == 1


HUB = ["gpt2-small", "pythia-160m", "gemma-2-2b"]
EACH = """
import sys
from pipelines.cli import main
for name in sys.argv[2:]:
    try:
        main(["run", name, "--store", sys.argv[1]])
    except SystemExit as end:
        print(end.code)
"""


def test_hub_configurations_validate_and_fail_offline_in_one_line(tmp_path: Path) -> None:
    """One after the other in a process whose cache is empty."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", EACH, str(tmp_path / "store"), *HUB]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["2"] * len(HUB)
    assert len(done.stderr.splitlines()) == len(HUB)
    assert done.stderr.count("HF_HUB_OFFLINE") == len(HUB)


def test_help_names_every_command_and_key(sae: Sae) -> None:
    status, out, _ = sae("--help")
    assert status == 0
    assert all(f"  {command} " in out for command in COMMANDS)
    status, out, _ = sae("train", "--help")
    assert status == 0
    assert "--train.l0 INT" in out
    assert "(default 16)" in out
    assert "Gao et al. 2024" in out


def test_overrides_are_read_as_yaml_1_2() -> None:
    from pipelines.config import read_experiment

    overrides = [("train.learning_rate", "2e-3"), ("text.max_tokens", "2_000"), ("model", "no")]
    experiment = read_experiment("quickstart", overrides)
    assert experiment.train is not None
    assert experiment.train.learning_rate == 2e-3
    assert experiment.text.max_tokens == 2000
    assert experiment.model == "no"


def test_paths_resolve_against_their_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.config import read_experiment

    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.yaml").write_text("model: ../model\ntext: {source: '${CORPUS:-texts.jsonl}'}")
    monkeypatch.chdir(tmp_path)
    experiment = read_experiment("inner/a.yaml", [("concepts", "c.jsonl")])
    assert experiment.model == str(tmp_path / "model")
    assert experiment.text.source == str(tmp_path / "inner" / "texts.jsonl")
    assert experiment.concepts == str(tmp_path / "c.jsonl")
    monkeypatch.setenv("CORPUS", "/elsewhere.txt")
    assert read_experiment("inner/a.yaml").text.source == "/elsewhere.txt"
