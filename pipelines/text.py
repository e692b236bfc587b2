"""The text of an experiment: where its files or its stream are, what they say, and the fingerprint of both.

1. A source is the microworld, a local file or folder, or a data set of the hub, which is streamed. A local folder is
   laid out as one of the hub: `text.name` is a folder in it, and files whose path names a split (`train-00000.parquet`,
   `test/a.jsonl`) belong to it; files that name none belong to train.
2. A row's text is one column of it; with a chat template, the messages in that column, rendered.
3. Texts are shuffled in a buffer and copies are dropped (`sae.lm.corpus`), except the microworld's: its texts are
   independent draws, of which a second one is no copy.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipelines.chat import chat_renderer, read_template
from pipelines.config import EMBEDDED, TextConfig
from pipelines.rows import SUFFIXES, Placed, rows_of
from sae import microworld
from sae.core.config import canonical_hash
from sae.core.errors import InputError, WorldError
from sae.core.random import numpy_generator
from sae.lm.corpus import Corpus, Text

N_FINGERPRINTED = 20_000
"""Words of the microworld whose content stands for the whole stream: it follows from the grammar and the seed."""

_SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_NAMED = re.compile(rf"(?:^|[-._ /])({'|'.join(_SPLITS)})(?=[-._ /0-9]|$)", re.IGNORECASE)
GROUP = "group"
"""A column whose value texts of one origin share."""


def text_key(text: TextConfig) -> dict[str, Any]:
    """Everything about a text that results depend on, by content and never by path."""
    template = text.chat_template
    if template is not None and Path(template).is_absolute():
        template = hashlib.sha256(read_template(Path(template)).encode()).hexdigest()
    settings = text.model_dump(exclude={"source", "chat_template"})
    return {"content": text_fingerprint(text), **settings, "chat_template": template}


def text_fingerprint(text: TextConfig) -> str:
    """Of the text's content: file hashes, the commit of a data set of the hub, or a sample of the generator's texts."""
    if text.source == EMBEDDED:
        sample = [document.text for document in microworld.documents(text.seed, N_FINGERPRINTED)]
        return f"{EMBEDDED}-{canonical_hash(sample)}"
    if _is_path(text.source):
        return _hash_files(_files(text))
    return f"{text.source.partition('@')[0]}@{_builder(text).hash}"


def read_corpus(text: TextConfig, tokenizer: Callable[[], Any]) -> Corpus:
    """The texts of a corpus, in the order in which they are to be read.

    Args:
        text: where they are.
        tokenizer: gives the model's, called where a chat template needs it.

    Raises:
        InputError: nothing there, an unknown kind of file, or rows without the column; further rows are checked when
            they are read.
    """
    if text.source == EMBEDDED:
        documents = microworld.documents(text.seed, text.max_tokens)
        return Corpus((Text(document.text) for document in documents), distinct=False)
    rows = _local_rows(text) if _is_path(text.source) else _hub_rows(text)
    texts = _at_least_one(_texts(rows, text, tokenizer), text.source)
    return Corpus(texts, text.distinct, text.shuffle_buffer, text.seed)


def _at_least_one(texts: Iterator[Text], source: str) -> Iterator[Text]:
    """The same texts, of which the first that says something has been found."""
    blank = []
    for text in texts:
        if text.text.strip():
            return itertools.chain(blank, [text], texts)
        blank.append(text)
    raise InputError(f"the corpus {source} is empty (key text.source)")


def _texts(rows: Iterator[Placed], text: TextConfig, tokenizer: Callable[[], Any]) -> Iterator[Text]:
    render = None if text.chat_template is None else chat_renderer(tokenizer(), text.chat_template)
    for row, where in rows:
        if text.column not in row:
            there = ", ".join(map(str, row))
            raise InputError(f"{where}: no text in column {text.column!r} (key text.column); its columns are {there}")
        value = row[text.column]
        said = value if render is None else render(value, where)
        if not isinstance(said, str):
            hint = "; text.chat_template renders messages" if isinstance(said, list) else ""
            raise InputError(
                f"{where}: no text in column {text.column!r} (key text.column), but {repr(said)[:40]}{hint}"
            )
        if not _encodable(said):
            raise InputError(f"{where}: half of a surrogate pair, which is no text in UTF-8")
        group = row.get(GROUP)
        yield Text(said, group if isinstance(group, str) else None)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_path(source: str) -> bool:
    """Paths were made absolute when the configuration was read; everything else is a name on the hub."""
    return Path(source).is_absolute()


def _local_rows(text: TextConfig) -> Iterator[Placed]:
    files = _files(text)
    if text.shuffle_buffer:
        files = [files[i] for i in numpy_generator(text.seed, "files").permutation(len(files))]
    return itertools.chain.from_iterable(rows_of(file, (text.column, GROUP)) for file in files)


def _files(text: TextConfig) -> list[Path]:
    """The files of a local source that belong to the split, in order of their paths."""
    path = Path(text.source)
    if not path.exists():
        raise InputError(f"no text at {path} (key text.source)")
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path} is no text that can be read; files may be {', '.join(SUFFIXES)}")
        return [path]
    if text.name is not None:
        path = path / text.name
        if not path.is_dir():
            raise InputError(f"no folder {path} (key text.name)")
    by_split: dict[str, list[Path]] = {}
    for file in sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file()):
        by_split.setdefault(_split_named(file.relative_to(path)), []).append(file)
    if not by_split:
        raise InputError(f"{path} holds no text that can be read; files may be {', '.join(SUFFIXES)}")
    wanted = _SPLITS.get(text.split, text.split)
    if wanted not in by_split:
        raise InputError(f"{path} has no split {text.split!r} (key text.split); it has {', '.join(by_split)}")
    return by_split[wanted]


def _split_named(file: Path) -> str:
    named = _NAMED.findall(file.as_posix())
    return _SPLITS[named[-1].lower()] if named else "train"


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(file.suffix.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _builder(text: TextConfig) -> Any:
    """The data set at one commit; what was cached where the hub is out of reach."""
    import datasets

    name, _, revision = text.source.partition("@")
    try:
        return datasets.load_dataset_builder(name, text.name, revision=revision or None)
    except (OSError, ValueError) as error:
        raise _unreadable(text, error) from None


def _hub_rows(text: TextConfig) -> Iterator[Placed]:
    """Rows of a streamed data set, of the cached copy when offline; its files are shuffled as well."""
    builder = _builder(text)
    try:
        stream = builder.as_dataset(text.split) if _offline() else builder.as_streaming_dataset(text.split)
    except (OSError, ValueError) as error:
        raise _unreadable(text, error) from None
    if text.shuffle_buffer and not _offline():
        stream = stream.shuffle(seed=text.seed, buffer_size=1)
    return stream_rows(stream, f"data set {text.source!r}, split {text.split}")


def stream_rows(stream: Any, where: str) -> Iterator[Placed]:
    """Rows of a data set, numbered from 1 in the order in which they come.

    Raises:
        InputError: rows that cannot be decoded.
        WorldError: the stream broke off.
    """
    rows, number = iter(stream), 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except ValueError as error:
            raise InputError(f"{where}, after row {number}: cannot be decoded ({_one_line(error)})") from None
        except OSError as error:
            raise WorldError(f"{where} broke off after row {number}: {_one_line(error)}") from None
        number += 1
        yield Placed(row, f"{where}, row {number}")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "ON", "YES")


def _unreadable(text: TextConfig, error: Exception) -> InputError:
    missing = _offline() and isinstance(error, OSError)
    reason = "HF_HUB_OFFLINE=1 and it is not in the cache" if missing else _one_line(error)
    return InputError(f"cannot read the data set {text.source!r} (key text.source): {reason}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
