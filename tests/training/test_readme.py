"""The walkthrough of the README runs as it stands, and does what it says."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_training_looking_and_steering_in_thirty_lines(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if "sae.train(" in block)
    assert len([line for line in example.splitlines() if line]) <= 30
    names: dict = {}
    exec(example, names)
    edited, plain = re.findall(r'# "(.*)", without it "(.*)"', example)[0]
    assert (names["words"].split()[0], plain.split()[0]) == (edited.split()[0], "is")  # other machines round otherwise
    alone = names["generate"](names["model"], [names["encode"](names["model"], "the table").ids], 3).tokens[0]
    assert names["model"].tokenizer.decode(alone) == plain
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:2]] == ["100", "200"]
    assert said[-1] == names["words"]
