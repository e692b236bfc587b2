"""An intervention on disk.

    intervention.json           operations by site; {"kind": the class, its fields …} for every value in them
    intervention.safetensors    their tensors, each under the path of its field
    dictionaries/<hash>/        dictionaries that were copied

A tensor is written {"tensor": name}. A dictionary is written {"dictionary": hash, "folder": path, "dtype": …}: its
hash is that of its configuration and weights, its folder is relative to this one. It is a reference to a folder that
the caller named (a store's artifact), else a copy, where it is small enough (`COPIED_BYTES`).

Everything is checked when it is read: the version, a hash over the JSON, the checksum of the tensors, every field's
type and every value by its own constructor; a dictionary that is no longer the one that was saved is refused.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sae.core.config import canonical_hash
from sae.core.errors import InputError, WorldError
from sae.dictionary import Dictionary, load
from sae.intervention.direction import Direction
from sae.intervention.fields import check_fields
from sae.intervention.operations import Operation
from sae.intervention.positions import Positions
from sae.lm.load import DTYPES

VERSION = 1
COPIED_BYTES = 64 * 2**20
"""Dictionaries up to this size are copied into the folder."""
_RECORD, _TENSORS, _DICTIONARIES = "intervention.json", "intervention.safetensors", "dictionaries"
_KINDS = {kind.__name__: kind for kind in (*get_args(Operation), *get_args(Positions), Direction)}
"""The closed unions by the names of their members: a class that is renamed makes a new version."""
Made = TypeVar("Made")


def write(folder: Path, edits: Mapping[str, Sequence[Operation]], dictionaries: Sequence[Path]) -> None:
    """Writes operations by site; the record last, so that a write that was cut short is seen.

    Raises:
        InputError: what cannot be saved.
    """
    writer = _Writer(folder, {dictionary_hash(load(one)): one for one in dictionaries})
    record: dict[str, Any] = {
        "version": VERSION,
        "edits": {site: [writer.value(one, f"{site}.{i}") for i, one in enumerate(s)] for site, s in edits.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, dictionary in writer.copied.items():
        dictionary.save(folder / _DICTIONARIES / name)
    save_file(writer.tensors, folder / _TENSORS)
    record["tensors_sha256"] = _checksum(folder / _TENSORS)
    record["hash"] = canonical_hash(record)
    (folder / _RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path, make: Callable[[Any], Made], device: torch.device) -> Made:
    """What `make` makes of the operations by site.

    Raises:
        InputError: the folder holds no intervention.
        WorldError: it is damaged, of a newer version, or a dictionary is gone or has changed.
    """
    if not (folder / _RECORD).is_file():
        raise InputError(f"no intervention in {folder}: it has no {_RECORD}")
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        _check_record(record)
        if record["tensors_sha256"] != _checksum(folder / _TENSORS):
            raise InputError(f"{_TENSORS} has changed since it was written")
        reader = _Reader(folder, load_file(folder / _TENSORS), device)
        return make({site: [reader.value(one) for one in several] for site, several in record["edits"].items()})
    except (InputError, ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        raise WorldError(f"the intervention in {folder} is damaged: {' '.join(str(error).split())[:300]}") from error


def dictionary_hash(dictionary: Dictionary) -> str:
    """Sixteen hexadecimal digits over a dictionary's configuration and weights in float32, as they are saved."""
    digest = hashlib.sha256(canonical_hash(dictionary.config).encode())
    for name, weight in sorted(dictionary.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()[:16]


class _Writer:
    """Collects tensors and dictionaries while values are written."""

    def __init__(self, folder: Path, known: Mapping[str, Path]) -> None:
        self.folder, self.known = folder, known
        self.tensors: dict[str, Tensor] = {}
        self.copied: dict[str, Dictionary] = {}

    def value(self, value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            self.tensors[path] = value.detach().cpu().contiguous().clone()
            return {"tensor": path}
        if isinstance(value, Dictionary):
            return self._dictionary(value)
        if is_dataclass(value):
            named = {f.name: self.value(getattr(value, f.name), f"{path}.{f.name}") for f in fields(value)}
            return {"kind": type(value).__name__, **named}
        if isinstance(value, tuple):
            return [self.value(one, f"{path}.{i}") for i, one in enumerate(value)]
        if callable(value):
            raise InputError(f"{path} is a function, which cannot be saved; give a number or a tensor")
        return value

    def _dictionary(self, dictionary: Dictionary) -> dict[str, str]:
        name, dtype = dictionary_hash(dictionary), str(dictionary.W_dec.dtype).removeprefix("torch.")
        if name in self.known:
            place = os.path.relpath(self.known[name].resolve(), self.folder.resolve())
            return {"dictionary": name, "folder": Path(place).as_posix(), "dtype": dtype}
        n_bytes = sum(4 * weight.numel() for weight in dictionary.parameters())
        if n_bytes > COPIED_BYTES:
            raise InputError(
                f"a dictionary of {n_bytes >> 20} MiB is not copied into {self.folder} (at most {COPIED_BYTES >> 20}"
                " MiB are); save it by reference: save(folder, dictionaries=[its folder])"
            )
        self.copied[name] = dictionary
        return {"dictionary": name, "folder": f"{_DICTIONARIES}/{name}", "dtype": dtype}


class _Reader:
    """Makes values of what a `_Writer` wrote."""

    def __init__(self, folder: Path, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.folder, self.tensors, self.device = folder, tensors, device
        self.loaded: dict[tuple[str, str], Dictionary] = {}

    def value(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self.value(one) for one in value)
        if not isinstance(value, dict):
            return value
        if "kind" not in value and "tensor" in value:
            return self.tensors[value["tensor"]]
        if "kind" not in value:
            return self._dictionary(value["dictionary"], value["folder"], value["dtype"])
        if str(value["kind"]) not in _KINDS:
            raise InputError(f"no kind {value['kind']!r}; there are {', '.join(_KINDS)}")
        kind = _KINDS[value["kind"]]
        named = {name: self.value(field) for name, field in value.items() if name != "kind"}
        check_fields(kind, named)
        return kind(**named)

    def _dictionary(self, name: str, folder: str, dtype: str) -> Dictionary:
        if (name, dtype) not in self.loaded:
            dictionary = load(self.folder / folder)
            if dictionary_hash(dictionary) != name:
                raise InputError(f"the dictionary in {folder} is not the one that was saved ({name})")
            self.loaded[name, dtype] = dictionary.to(self.device, DTYPES[dtype]).requires_grad_(False)
        return self.loaded[name, dtype]


def _check_record(record: Any) -> None:
    if record["version"] != VERSION:
        raise InputError(f"it has version {record['version']}; this code reads {VERSION}")
    if record["hash"] != canonical_hash({key: value for key, value in record.items() if key != "hash"}):
        raise InputError(f"{_RECORD} has changed since it was written")


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
