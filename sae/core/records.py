"""The records that stages exchange: labelled texts and findings, both as JSON lines."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from sae.core.config import Strict
from sae.core.errors import InputError

Span = tuple[int, int]
Record = TypeVar("Record", bound=Strict)


class Consequence(Strict):
    """What a label makes the text say later."""

    position: int = Field(ge=0)
    """Character offset at which the consequence's text begins, its leading space included."""
    tokens: dict[str, str]
    """For each label the text that follows there."""


class Twin(Strict):
    """The counterfactual: the same text with one variable changed."""

    text: str
    label: str
    span: Span


class LabelledText(Strict):
    """A text in which a variable's value is known and expressed at `span` (characters, end excluded)."""

    text: str
    variable: str
    label: str
    span: Span
    consequence: Consequence | None = None
    twin: Twin | None = None
    group: str | None = None
    """Shared by texts and twins of one origin; decides the split."""

    @model_validator(mode="after")
    def _fits(self) -> "LabelledText":
        _check_span(self.text, self.span)
        if self.twin is not None:
            _check_span(self.twin.text, self.twin.span)
        if self.consequence is not None:
            if self.label not in self.consequence.tokens:
                raise InputError(
                    f"label {self.label!r} has no consequence; there are {sorted(self.consequence.tokens)}"
                )
            if not self.span[1] <= self.consequence.position <= len(self.text):
                raise InputError(f"consequence at {self.consequence.position} is not after the span {self.span}")
        return self

    @property
    def key(self) -> str:
        """What decides the split: the group, else the text."""
        return self.group or self.text


def _check_span(text: str, span: Span) -> None:
    if not 0 <= span[0] < span[1] <= len(text):
        raise InputError(f"span {list(span)} does not lie within the text of {len(text)} characters")


class Interval(Strict):
    """An interval of confidence `level`."""

    low: float
    high: float
    level: float = 0.95


class Control(Strict):
    """The simple thing that stands beside an effect."""

    what: str
    effect: float
    interval: Interval | None = None


class Subject(Strict):
    """What a finding is about."""

    kind: Literal["latent", "latents", "direction", "site", "probe"]
    site: str
    dictionary: str | None = None
    """Hash of the dictionary that the latents belong to."""
    latents: tuple[int, ...] = ()
    name: str = ""
    """In words, for a direction or probe."""


class Finding(Strict):
    """One claim with its effect, interval and control; all that cards, reports and pages show."""

    kind: str
    variable: str
    subject: Subject
    effect: float
    unit: str
    direction: str
    """In words, what a positive effect means."""
    interval: Interval | None
    n_documents: int = Field(ge=0)
    control: Control
    p: float | None = None
    q: float | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    created: str | None = None
    """When the artifact was published; filled from its manifest on reading."""


def write_records(path: Path, records: Iterable[Strict]) -> None:
    """One JSON object a line, keys in the order of the record."""
    text = "".join(record.model_dump_json(exclude_none=True) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")


def read_records(path: Path, record: type[Record]) -> list[Record]:
    """Reads JSON lines; an error names file, line and field."""
    if not path.is_file():
        raise InputError(f"no file {path}")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                rows.append(record.model_validate_json(line))
            except ValidationError as error:
                raise InputError(f"{path}, line {number}: {first_problem(error)}") from None
    if not rows:
        raise InputError(f"{path} holds no records")
    return rows


def first_problem(error: ValidationError) -> str:
    """The first problem of a validation error in one line, its place in dots."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def read_labelled_texts(path: Path) -> list[LabelledText]:
    """The labelled texts of a JSON-lines file (DESIGN, *Labelled texts*)."""
    return read_records(path, LabelledText)


def write_labelled_texts(path: Path, texts: Iterable[LabelledText]) -> None:
    """Writes labelled texts as JSON lines."""
    write_records(path, texts)


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Writes findings as JSON lines, without the time: it stands in the manifest."""
    write_records(path, (finding.model_copy(update={"created": None}) for finding in findings))


def read_findings(path: Path, created: str | None = None) -> list[Finding]:
    """Reads findings; `created` comes from the artifact's manifest."""
    return [finding.model_copy(update={"created": created}) for finding in read_records(path, Finding)]
