"""One experiment: the keys of a configuration file, read strictly, with relative paths made whole.

Relative paths in a file resolve against the file's own folder, on the command line against the current directory.
"""

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, field_validator

from pipelines.catalogue import CatalogueConfig
from pipelines.evaluate import EvaluateConfig
from pipelines.harvest import HarvestConfig
from pipelines.probe import ProbeConfig
from pipelines.report import ReportConfig
from pipelines.steer import SteerConfig
from pipelines.validate import ValidateConfig
from pipelines.yaml_values import read_file, read_value
from sae.core.config import EXECUTION, Strict
from sae.core.errors import InputError, nearest
from sae.lm.options import ModelOptions
from sae.training.config import TrainConfig

PATH_KEYS = (
    "model",
    "model_options.offload_folder",
    "text.source",
    "text.chat_template",
    "concepts",
    "train.start_from",
    "train.beside",
)
_FILES = (".jsonl", ".json", ".txt", ".csv", ".parquet", ".arrow", ".jinja")
EMBEDDED = "microworld"
_TYPES_IN_PLACES = ("tuple[", "literal[", "constrained-")


class TextConfig(Strict):
    """The text that is read: where it is and how much of it."""

    source: str = EMBEDDED
    """`microworld`, a file or folder (.jsonl, .txt, .csv, .parquet, .arrow), or a hub name with optional @revision,
    which is streamed."""
    column: str = "text"
    """The field of a row that holds its text, or its messages where there is a chat template."""
    chat_template: str | None = None
    """Renders the messages of a row: `default` or another name that the tokenizer knows, or a file (.jinja)."""
    name: str | None = None
    """The configuration of a hub data set that has several; in a local folder, the folder of this name."""
    split: str = "train"
    """The split of a hub data set, or of a local folder whose files name one; files that name none are train."""
    max_tokens: PositiveInt = 1_000_000
    """Tokens to read, special tokens included."""
    shuffle_buffer: NonNegativeInt = 10_000
    """Texts that wait in memory to be drawn in random order, uniform where all fit in; 0 keeps the corpus's order."""
    distinct: bool = True
    """Drop texts that equal an earlier one."""
    seed: int = 0
    """Seed of the shuffle, or of the microworld's generator, whose texts are neither shuffled nor dropped."""


class SitePair(Strict):
    """What a transcoder reads and what it writes."""

    source: str
    target: str


def _names_of(site: str | tuple[str, ...] | SitePair) -> tuple[str, ...]:
    match site:
        case str():
            return (site,)
        case SitePair():
            return (site.source, site.target)
        case _:
            return site


class Experiment(Strict):
    """One experiment; each section that is there is a stage that `sae run` runs."""

    seed: int = 0
    """Seed of everything random: initial weights, data order, resampling, control directions."""
    model: str = EMBEDDED
    """`microworld`, a folder in the Hugging Face layout, or a hub name with optional @revision."""
    model_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the model's forward pass."""
    model_options: ModelOptions = ModelOptions()
    device: Annotated[str, EXECUTION] = "auto"
    """Where the model runs: auto, cpu, cuda, cuda:1 …"""
    site: str | tuple[str, ...] | SitePair = "blocks.2.resid_post"
    """The place in the model, or several, or {source, target} for a transcoder; see the README for their names."""
    text: TextConfig = TextConfig()
    concepts: str = EMBEDDED
    """`microworld`, or a JSON-lines file of labelled texts."""
    harvest: HarvestConfig | None = None
    train: TrainConfig | None = None
    evaluate: EvaluateConfig | None = None
    catalogue: CatalogueConfig | None = None
    probe: ProbeConfig | None = None
    steer: SteerConfig | None = None
    validate_: ValidateConfig | None = Field(None, alias="validate")
    report: ReportConfig | None = None

    @field_validator("site")
    @classmethod
    def _named(cls, site: "str | tuple[str, ...] | SitePair") -> "str | tuple[str, ...] | SitePair":
        sites = _names_of(site)
        if not sites or len(set(sites)) < len(sites):
            raise InputError(f"needs one or more different sites, got {list(sites)}")
        return site

    @property
    def sites(self) -> tuple[str, ...]:
        """The harvested sites."""
        return _names_of(self.site)

    @property
    def pair(self) -> tuple[str, str] | None:
        """Source and target, where the site is such a pair."""
        return (self.site.source, self.site.target) if isinstance(self.site, SitePair) else None

    def section(self, stage: str) -> Strict | None:
        """The section of a stage, if the file has it."""
        return getattr(self, "validate_" if stage == "validate" else stage)


def read_experiment(config: str, overrides: Sequence[tuple[str, str]] = ()) -> Experiment:
    """Reads a file, or a shipped one by its name, and applies `--section.key value` overrides.

    Raises:
        InputError: naming the file, the place in it, and what is allowed.
    """
    path = find_config(config)
    raw = read_file(path)
    _make_paths_whole(raw, path.parent)
    for key, text in overrides:
        _set(raw, key, _from_command_line(key, text))
    return check(raw, f"{path} with the overrides of the command line" if overrides else str(path))


def check(raw: dict[str, Any], where: str) -> Experiment:
    """Validates a mapping; an error says where in the file and what was meant."""
    sections = {stage for stage in section_names() if stage in raw and raw[stage] is None}
    try:
        return Experiment.model_validate({**raw, **{stage: {} for stage in sections}})
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from None


def section_names() -> list[str]:
    """Names of the sections, in the order of the flow."""
    names = [field.alias or name for name, field in Experiment.model_fields.items()]
    return names[names.index("harvest") :]


def shipped_configs() -> Path:
    """The folder of shipped configurations: package data when installed, else the checkout's own."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "configs"


def find_config(config: str) -> Path:
    """A file by its path, or a shipped one by its name."""
    path = Path(config).expanduser()
    if path.is_file():
        return path.absolute()
    shipped = shipped_configs() / f"{config}.yaml"
    if shipped.is_file():
        return shipped
    names = sorted(file.stem for file in shipped_configs().glob("*.yaml"))
    reason = "is a folder" if path.is_dir() else "does not exist"
    raise InputError(f"configuration {config} {reason}; give a YAML file or one of {', '.join(names)}")


def explain(error: ValidationError) -> str:
    """The first problem in one line: the key, what is wrong, the key that was meant."""
    problem, *others = error.errors()
    place = _place(problem)
    key = ".".join(place)
    if problem["type"] == "extra_forbidden":
        allowed = keys_of(_model_at(place[:-1]))
        inside = f"in section {'.'.join(place[:-1])!r}" if place[:-1] else "at the top"
        return f"unknown key {key!r}{nearest(place[-1], allowed) or '.'} Allowed {inside}: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    words = [
        other.get("ctx", {}).get("expected", "")
        for other in others
        if _place(other) == place and other["type"] == "literal_error"
    ]
    message = ", or ".join([problem["msg"].removeprefix("Value error, "), *words])
    return f"{key}: {message}" + (
        "" if "loc" not in problem or problem["type"] == "value_error" else f", got {problem['input']!r}"
    )


def _place(problem: Mapping[str, Any]) -> list[str]:
    """Keys from the top on, without pydantic's names of what a union may be."""
    return [part for part in map(str, problem["loc"]) if not part.startswith(_TYPES_IN_PLACES)]


def keys_of(model: type[Strict]) -> list[str]:
    """The keys that a section allows, as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(place: list[str]) -> type[Strict]:
    model: type[Strict] = Experiment
    for key in place:
        field = next((f for name, f in model.model_fields.items() if key in (name, f.alias)), None)
        inner = section_type(field.annotation) if field is not None else None
        if inner is None:
            return model
        model = inner
    return model


def section_type(annotation: Any) -> type[Strict] | None:
    """The record within an annotation such as `TrainConfig | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        return next(filter(None, map(section_type, typing.get_args(annotation))), None)
    return None


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if raw.get(section) is None:
            raw[section] = {}
        raw = raw[section]
        if not isinstance(raw, dict):
            raise InputError(f"--{key}: {section!r} is a value, not a section")
    raw[last] = value


def _from_command_line(key: str, text: str) -> Any:
    value = read_value(text)
    return _whole_path(value, Path.cwd()) if key in PATH_KEYS and isinstance(value, str) else value


def _make_paths_whole(raw: dict[str, Any], folder: Path) -> None:
    for key in PATH_KEYS:
        *sections, last = key.split(".")
        inner = raw
        for section in sections:
            inner = inner.get(section)
            if not isinstance(inner, dict):
                break
        if isinstance(inner, dict) and isinstance(inner.get(last), str):
            inner[last] = _whole_path(inner[last], folder)


def _whole_path(value: str, folder: Path) -> str:
    """An absolute path where `value` is one: it says so (`./`, `../`, `/`, `~`, a suffix) or it exists there."""
    if value == EMBEDDED:
        return value
    path = Path(value).expanduser()
    says_so = value.startswith((".", "/", "~")) or path.suffix in _FILES
    return str((folder / path).resolve()) if says_so or (folder / path).exists() else value
