"""What an activations folder holds: `contents.json`, written when every shard is whole.

It names sites, dtype, window and every shard with its rows, so that a reader can tell a missing or damaged shard.
"""

from pathlib import Path

from pydantic import Field, ValidationError

from sae.activations.config import Encoding
from sae.core.config import Strict
from sae.core.errors import InputError, WorldError
from sae.core.records import first_problem
from sae.core.splits import Split

FORMAT = 1
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
    window: int
    """Tokens in a packed window of the forward passes."""
    sites: tuple[SiteContents, ...]
    shards: tuple[ShardContents, ...]

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


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
        contents = Contents.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise WorldError(f"{file} is damaged: {first_problem(error)}") from None
    if contents.format > FORMAT:
        raise WorldError(f"{file} has format {contents.format}; this version reads up to {FORMAT}: update sae")
    return contents
