"""Records survive the disk; a bad line is named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from sae.core.errors import InputError
from sae.core.records import (
    Consequence,
    Control,
    Finding,
    Interval,
    LabelledText,
    Subject,
    Twin,
    read_findings,
    read_labelled_texts,
    write_findings,
    write_labelled_texts,
)

TEXT = LabelledText(
    text="the keys are here",
    variable="number",
    label="plural",
    span=(4, 8),
    consequence=Consequence(position=8, tokens={"plural": " are", "singular": " is"}),
    twin=Twin(text="the key is here", label="singular", span=(4, 7)),
    group="g",
)
FINDING = Finding(
    kind="probe",
    variable="number",
    subject=Subject(kind="latent", site="blocks.2.resid_post", dictionary="abc", latents=(7,)),
    effect=0.9,
    unit="balanced accuracy",
    direction="higher: better read",
    interval=Interval(low=0.8, high=1.0),
    n_documents=40,
    control=Control(what="shuffled labels", effect=0.5),
    p=0.01,
)


def test_labelled_texts_and_findings_survive_the_disk(tmp_path: Path) -> None:
    write_labelled_texts(tmp_path / "texts.jsonl", [TEXT])
    assert read_labelled_texts(tmp_path / "texts.jsonl") == [TEXT]
    write_findings(tmp_path / "findings.jsonl", [FINDING.model_copy(update={"created": "now"})])
    assert "created" not in (tmp_path / "findings.jsonl").read_text()
    assert read_findings(tmp_path / "findings.jsonl", created="then") == [
        FINDING.model_copy(update={"created": "then"})
    ]


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(TEXT.model_dump_json() + "\n" + '{"text": "a"}\n')
    with pytest.raises(InputError, match=r"texts\.jsonl, line 2: variable: Field required"):
        read_labelled_texts(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no records"):
        read_labelled_texts(path)
    with pytest.raises(InputError, match="no file"):
        read_labelled_texts(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    "wrong",
    [
        {"span": (4, 99)},
        {"span": (8, 8)},
        {"label": "dual"},
        {"consequence": Consequence(position=2, tokens={"plural": " are"})},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        LabelledText.model_validate({**TEXT.model_dump(), **wrong})
