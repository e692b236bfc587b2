"""What an activations folder holds: `contents.json`, written when every shard is whole.

It names sites, dtype, compression, packing and every shard with its rows, so that a reader can tell a missing or
damaged shard.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sae.activations.config import Compression, Encoding
from sae.core.config import Strict
from sae.core.errors import InputError, NewerFormatError, WorldError
from sae.core.records import first_problem
from sae.core.splits import Split
from sae.lm.packing import Packing

FORMAT = 3
FILE = "contents.json"


class SiteContents(Strict):
    """One harvested site."""

    name: str
    d: int = Field(gt=0)
    """Width of a row."""


class ShardContents(Strict):
    """One shard."""

    file: str
    split: Split
    n_rows: int = Field(gt=0)


class Contents(Strict):
    """The sites and shards of a folder, shards in reading order within each split."""

    format: int = FORMAT
    dtype: Encoding
    compression: Compression = "none"
    packing: Packing
    """How pieces of documents stood in the windows of the forward passes."""
    sites: tuple[SiteContents, ...]
    shards: tuple[ShardContents, ...]

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


class _Raw(BaseModel):
    """What every format has in common."""

    model_config = ConfigDict(extra="allow")
    format: int


def read_contents(folder: Path) -> Contents:
    """Reads `contents.json`.

    Raises:
        InputError: the folder holds no activations.
        WorldError: the file is damaged or of a newer format.
    """
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"{folder} holds no activations: it has no {FILE}")
    try:
        raw = _Raw.model_validate_json(file.read_bytes())
        if raw.format > FORMAT:
            raise NewerFormatError(file, raw.format, FORMAT)
        return Contents.model_validate(raw.model_dump() if raw.format > 1 else _from_format_1(raw.model_dump()))
    except ValidationError as error:
        raise WorldError(f"{file} is damaged: {first_problem(error)}") from None


def _from_format_1(raw: dict[str, Any]) -> dict[str, Any]:
    """Format 1 gave `window` alone: documents were no longer than it and always isolated."""
    return {**{key: value for key, value in raw.items() if key != "window"}, "packing": {"window": raw.get("window")}}
