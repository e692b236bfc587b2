"""What an experiment names: its model, text and concepts, found, fingerprinted by content, and loaded once."""

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from pipelines.config import EMBEDDED, Experiment, TextConfig
from sae import microworld
from sae.core.config import canonical_hash
from sae.core.errors import InputError
from sae.core.records import LabelledText, read_labelled_texts
from sae.lm.load import LoadedModel, fingerprint, load_model
from sae.lm.tokens import Text

N_CONCEPT_TEXTS = 400
N_PER_LABEL = 30
"""Labelled texts per variable of the microworld: so many in all, and so many of each label."""

N_FINGERPRINTED = 20_000
"""Words of the microworld whose content stands for the whole stream: it follows from the grammar and the seed."""

_SUFFIXES = (".jsonl", ".txt", ".csv", ".parquet")


class Resources:
    """The model, text and concepts of one experiment; each is looked up when it is first needed."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    @property
    def model_reference(self) -> str:
        name = self._experiment.model
        return str(microworld.folder()) if name == EMBEDDED else name

    @functools.cached_property
    def model_fingerprint(self) -> str:
        """Of the weights, configuration and tokenizer, never of the path."""
        return fingerprint(self.model_reference)

    @functools.cached_property
    def text_fingerprint(self) -> str:
        return text_fingerprint(self._experiment.text)

    @functools.cached_property
    def concepts_fingerprint(self) -> str:
        name = self._experiment.concepts
        if name == EMBEDDED:
            return canonical_hash(self.concepts())
        self.concepts()
        return _hash_files([Path(name)])

    @functools.cached_property
    def device(self) -> str:
        import torch

        wanted = self._experiment.device
        if wanted == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=wanted)
        except (RuntimeError, AssertionError):
            raise InputError(f"device {wanted!r} is not available here; try auto or cpu") from None
        return wanted

    @functools.cache  # noqa: B019 (one Resources lives as long as its process)
    def model(self) -> LoadedModel:
        return load_model(self.model_reference, dtype=self._experiment.model_dtype, device=self.device)

    def texts(self) -> Iterator[Text]:
        return read_texts(self._experiment.text)

    @functools.cache  # noqa: B019
    def concepts(self) -> list[LabelledText]:
        name = self._experiment.concepts
        if name != EMBEDDED:
            return read_labelled_texts(Path(name))
        return [text for variable in microworld.VARIABLES for text in _embedded_concepts(variable)]


def _embedded_concepts(variable: str) -> list[LabelledText]:
    n_texts = max(N_CONCEPT_TEXTS, N_PER_LABEL * len(microworld.labels(variable)))
    return microworld.labelled(variable, n_texts, seed=0)


def text_fingerprint(text: TextConfig) -> str:
    """Of the text's content: file hashes, a hub data set's revision, or the generator's version and seed."""
    if text.source == EMBEDDED:
        sample = [document.text for document in microworld.documents(text.seed, N_FINGERPRINTED)]
        return f"{EMBEDDED}-{canonical_hash(sample)}"
    if _is_path(text.source):
        return _hash_files(_files(Path(text.source)))
    dataset = _hub_dataset(text)
    return f"{text.source}/{text.name}/{text.split}@{dataset.info.download_checksums or dataset.info.version}"


def read_texts(text: TextConfig) -> Iterator[Text]:
    """The documents of a corpus, in its own order.

    Raises:
        InputError: nothing there, an unknown kind of file, or rows without the column.
    """
    if text.source == EMBEDDED:
        return (Text(document.text) for document in microworld.documents(text.seed, text.max_tokens))
    if _is_path(text.source):
        return _at_least_one(_read_files(_files(Path(text.source)), text.column), text.source)
    return _at_least_one(_rows(_hub_dataset(text), text.column, text.source), text.source)


def _at_least_one(texts: Iterator[Text], source: str) -> Iterator[Text]:
    first = next((text for text in texts if text.text.strip()), None)
    if first is None:
        raise InputError(f"the corpus {source} is empty (key text.source)")
    yield first
    yield from texts


def _is_path(source: str) -> bool:
    """Paths were made absolute when the configuration was read; everything else is a name on the hub."""
    return Path(source).is_absolute()


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"no text at {path} (key text.source)")
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix in _SUFFIXES)
    if not files or any(f.suffix not in _SUFFIXES for f in files):
        raise InputError(f"{path} holds no text that can be read; files may be {', '.join(_SUFFIXES)}")
    return files


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(file.suffix.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _read_files(files: list[Path], column: str) -> Iterator[Text]:
    for file in files:
        if file.suffix == ".jsonl":
            yield from _read_json_lines(file, column)
        elif file.suffix == ".txt":
            yield from (Text(paragraph) for paragraph in _paragraphs(file))
        else:
            yield from _rows(_local_dataset(file), column, str(file))


def _read_json_lines(file: Path, column: str) -> Iterator[Text]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{file}, line {number}: not JSON ({error})") from None
            yield _text_of(row, column, f"{file}, line {number}")


def _paragraphs(file: Path) -> Iterator[str]:
    """Blocks of lines between empty lines."""
    block: list[str] = []
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                block.append(line)
            elif block:
                yield "".join(block).strip()
                block = []
    if block:
        yield "".join(block).strip()


def _rows(rows, column: str, where: str) -> Iterator[Text]:
    for number, row in enumerate(rows, 1):
        yield _text_of(row, column, f"{where}, row {number}")


def _text_of(row: object, column: str, where: str) -> Text:
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        has = f"its columns are {', '.join(map(str, row))}" if isinstance(row, dict) else "it is no mapping"
        raise InputError(f"{where}: no text in column {column!r} (key text.column); {has}")
    group = row.get("group")
    return Text(row[column], group if isinstance(group, str) else None)


def _local_dataset(file: Path):
    from datasets import load_dataset

    return load_dataset(file.suffix[1:], data_files=str(file), split="train", streaming=True)


def _hub_dataset(text: TextConfig):
    """A data set of the hub, streamed; from the cache alone when HF_HUB_OFFLINE=1."""
    import datasets

    name, _, revision = text.source.partition("@")
    offline = os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "TRUE", "ON", "YES")
    try:
        return datasets.load_dataset(
            name, text.name, split=text.split, revision=revision or None, streaming=not offline
        )
    except (OSError, ValueError, ConnectionError) as error:
        reason = "HF_HUB_OFFLINE=1 and it is not in the cache" if offline else " ".join(str(error).split())[:200]
        raise InputError(f"cannot read the data set {text.source!r} (key text.source): {reason}") from None
