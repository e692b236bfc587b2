"""Rows of local files, each with its place, so that what is wrong can be named by file and row.

Text and JSON lines are decoded line by line, and Arrow values one by one: the readers of `datasets` decode whole
blocks, and an undecodable byte would not tell its row. CSV stays text (a guess at types would make numbers of it).
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sae.core.errors import InputError

Row = dict[str, Any]
_ROWS_PER_READ = 1000


class Placed(NamedTuple):
    """A row and where it stands."""

    row: Row
    where: str


def rows_of(file: Path, columns: tuple[str, ...]) -> Iterator[Placed]:
    """The rows of a file; a `.txt` file has one column, the first of `columns`.

    Args:
        file: its suffix is one of `SUFFIXES`.
        columns: those that are wanted; formats that allow it read no other.

    Raises:
        InputError: not of its format, bytes that are not UTF-8, a column named twice, or a CSV row with more cells
            than the header; names file and row.
    """
    return _READERS[file.suffix](file, columns)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines from 1, with their ends; a byte order mark is no text."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _undecodable(f"{file}, line {number}", error) from None


def _undecodable(where: str, error: UnicodeDecodeError) -> InputError:
    byte = error.object[error.start]
    return InputError(f"{where}: byte 0x{byte:02x} at place {error.start} is not UTF-8; save the text as UTF-8")


def _paragraphs(file: Path, columns: tuple[str, ...]) -> Iterator[Placed]:
    """Blocks of lines between empty lines."""
    block: list[str] = []
    first = 1
    for number, line in _lines(file):
        if line.strip():
            first = first if block else number
            block.append(line)
        elif block:
            yield Placed({columns[0]: "".join(block).strip()}, f"{file}, line {first}")
            block = []
    if block:
        yield Placed({columns[0]: "".join(block).strip()}, f"{file}, line {first}")


def _json_lines(file: Path, columns: tuple[str, ...]) -> Iterator[Placed]:
    for number, line in _lines(file):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}: a row must be a JSON object, got {type(row).__name__}")
        yield Placed(row, where)


def _csv(file: Path, columns: tuple[str, ...]) -> Iterator[Placed]:
    csv.field_size_limit(sys.maxsize)  # else a document of more than 128 KiB is refused
    lines = csv.reader((line for _, line in _lines(file)), strict=True)
    header: list[str] = []
    while True:
        where = f"{file}, line {lines.line_num + 1}"
        try:
            values = next(lines, None)
        except csv.Error as error:
            raise InputError(f"{where}: not CSV ({error})") from None
        if values is None:
            return
        if not header:
            header = values
            _refuse_twice(header, where)
        elif len(values) > len(header):
            raise InputError(
                f"{where}: {len(values)} cells, but the header has {len(header)} columns; quote a cell with a comma"
            )
        elif values:
            yield Placed(dict(zip(header, values, strict=False)), where)  # a column that it lacks is told by its reader


def _refuse_twice(names: list[str], where: str) -> None:
    """Refuses a table of which two columns have one name; columns without a name are nobody's."""
    twice = [name for i, name in enumerate(names) if name and name in names[:i]]
    if twice:
        raise InputError(f"{where}: two columns are named {twice[0]!r}; each column needs a name of its own")


def _parquet(file: Path, columns: tuple[str, ...]) -> Iterator[Placed]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            present = opened.schema_arrow.names
            _refuse_twice(present, str(file))
            wanted = [name for name in columns if name in present]
            yield from _arrow_rows(opened.iter_batches(_ROWS_PER_READ, columns=wanted), file, columns, present)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file} is no Parquet file that can be read: {_first_line(error)}") from None


def _arrow(file: Path, columns: tuple[str, ...]) -> Iterator[Placed]:
    import pyarrow
    from pyarrow import ipc

    try:
        with pyarrow.memory_map(str(file)) as source:
            try:
                opened = ipc.open_file(source)
                batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
            except pyarrow.ArrowInvalid:  # not the file format, so the stream format, which `datasets` writes
                source.seek(0)
                opened = batches = ipc.open_stream(source)
            _refuse_twice(opened.schema.names, str(file))
            yield from _arrow_rows(batches, file, columns, opened.schema.names)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file} is no Arrow file that can be read: {_first_line(error)}") from None


def _arrow_rows(batches: Any, file: Path, columns: tuple[str, ...], present: list[str]) -> Iterator[Placed]:
    """Rows of record batches: values of the wanted columns, nothing for those that are there but not wanted."""
    wanted = [name for name in columns if name in present]
    others = {name: None for name in present if name not in wanted}
    number = 0
    for batch in batches:
        for i in range(batch.num_rows):
            number += 1
            where = f"{file}, row {number}"
            try:
                values = {name: batch.column(name)[i].as_py() for name in wanted}
            except UnicodeDecodeError as error:
                raise _undecodable(where, error) from None
            yield Placed({**values, **others}, where)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


_READERS: dict[str, Callable[[Path, tuple[str, ...]], Iterator[Placed]]] = {
    ".jsonl": _json_lines,
    ".txt": _paragraphs,
    ".csv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
SUFFIXES = tuple(_READERS)
