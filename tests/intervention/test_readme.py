"""The example of the README runs as it stands, and does what it says."""

import re
from pathlib import Path

import pytest

from sae.lm import encode, generate

README = Path(__file__).parents[2] / "README.md"


def test_the_example_of_an_intervention_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if "measured(" in block)
    assert len(example.split("\n")) <= 24
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example, names)
    edited, plain = re.findall(r'# "(.*)", without it "(.*)"', example)[0]
    model = names["model"]
    alone = generate(model, [encode(model, "the table").ids], 3).tokens[0]
    assert (names["words"], model.tokenizer.decode(alone)) == (edited, plain)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("at blocks.1.resid_post: add 2 × (plural minus singular at blocks.1.resid_post, one unit")
    assert said[1] == edited
