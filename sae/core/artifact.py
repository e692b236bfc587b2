"""Write-once artifact directories.

1. An artifact is built under `<store>/.building/<hash>`, by one process at a time (a lock that dies with it).
2. Its files are synced to disk and its `manifest.json`, with a checksum for every file, is written last.
3. One rename moves it to `<store>/<kind>/<hash>`, where it never changes again.

A directory without a manifest does not exist for any reader; what a killed run left in `.building` is there for the run
that resumes. A manifest holds a checksum of itself: one that is damaged is said, and nothing beside it is lost by that.
"""

import hashlib
import json
import mmap
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sae.core.errors import InputError, NewerFormatError, WorldError
from sae.core.lock import held

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
_OWN = "manifest_sha256"
"""Of everything else in a manifest, as sorted JSON; format 1 has none."""
HALF_WRITTEN = ".tmp??????"
"""What safetensors writes to and renames then: a process that is killed leaves it behind."""
MEND = "mend it with sae harvest CONFIG --repair"
"""What to do about a damaged harvest."""
BEFORE = ".before.json"
BESIDE = ".beside"
"""Ends the names of files that a resume needs, and nobody afterwards."""
_DIGESTS = ".digests.json"
_PASSING = (BEFORE, _DIGESTS, f"*{BESIDE}")
"""What goes last, when everything else of an artifact is on the disk."""
_BLOCK = 1 << 21
"""Bytes that are hashed at a time: a thread that hashes seldom waits for its turn among those of Python."""


@dataclass(frozen=True)
class Artifact:
    """A published directory and its manifest."""

    path: Path
    manifest: dict[str, Any] = field(repr=False)

    @property
    def hash(self) -> str:
        return self.manifest["hash"]

    @property
    def kind(self) -> str:
        return self.manifest["kind"]

    @property
    def created(self) -> str:
        return self.manifest["created"]

    @property
    def metrics(self) -> dict[str, Any]:
        """What the stage said of its result."""
        return self.manifest["metrics"]


def open_artifact(path: Path) -> Artifact:
    """Opens a published artifact, checking its manifest and the size of every file.

    Raises:
        InputError: `path` is no artifact.
        WorldError: the artifact is damaged, or of a newer format.
    """
    artifact = _read_manifest(path)
    if artifact is None:
        raise InputError(f"{path} is no artifact: it has no {MANIFEST}")
    for name, entry in artifact.manifest["files"].items():
        file = path / name
        size = file.stat().st_size if file.is_file() else None
        if size != entry["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes"
            raise WorldError(f"{file} {found}, its manifest says {entry['bytes']}; {_mend(path)}")
    return artifact


def _mend(path: Path) -> str:
    if path.absolute().parent.name == "activations":
        return MEND
    return f"delete {path} and run again"


def damaged_files(artifact: Artifact) -> list[str]:
    """Names of files whose checksum differs from the manifest, or that are missing."""
    entries = artifact.manifest["files"].items()
    files = {name: artifact.path / name for name, _ in entries}
    return [name for name, e in entries if not files[name].is_file() or digest_of(files[name]) != e["sha256"]]


class _DamagedManifestError(WorldError):
    """A manifest that is there, and is not what was written."""


def _read_manifest(path: Path) -> Artifact | None:
    """None where there is none.

    Raises:
        WorldError: it is damaged, or of a newer format.
    """
    file = path / MANIFEST
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise WorldError(f"{file} cannot be read: {error.strerror}") from None
    damaged = _DamagedManifestError(f"{file} is damaged; {_mend(path)}")
    try:
        manifest = json.loads(text)
        version, own = int(manifest["schema_version"]), manifest.pop(_OWN, None)
        if own is not None and own != _own_digest(manifest):
            raise damaged
        if version > SCHEMA_VERSION:
            raise NewerFormatError(path, version, SCHEMA_VERSION)
        if own is None and version != 1:
            raise damaged
        for key in ("kind", "hash"):
            str.encode(manifest[key])
        for entry in manifest["files"].values():
            int.bit_length(entry["bytes"])
            str.encode(entry["sha256"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged from None
    return Artifact(path, manifest)


def _own_digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def keep_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Notes checksums of files that are synced to disk and will not change, for `Building.publish` not to read again.

    Args:
        folder: where the artifact is built.
        digests: SHA-256 by file name.
    """
    (folder / _DIGESTS).write_text(json.dumps(dict(digests)), encoding="utf-8")


def _kept_digests(folder: Path) -> dict[str, str]:
    try:
        return json.loads((folder / _DIGESTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def digest_of(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    # Memory that begins where a page does: the system copies several times as fast into it.
    digest, block = hashlib.sha256(), memoryview(mmap.mmap(-1, _BLOCK))
    with file.open("rb", buffering=0) as stream:
        while n_bytes := stream.readinto(block):
            digest.update(block[:n_bytes])
    return digest.hexdigest()


@dataclass(frozen=True)
class Building:
    """An artifact in the making; whatever is in `path` when it is published belongs to it."""

    path: Path
    final: Path
    started: float

    def publish(self, manifest: dict[str, Any]) -> Artifact:
        """Syncs every file, writes the manifest and renames the directory into place.

        Args:
            manifest: everything that the caller knows: kind, hash, inputs, parents, metrics …
        """
        for half_written in self.path.rglob(HALF_WRITTEN):
            half_written.unlink()
        digests = _kept_digests(self.path)
        files = to_publish(self.path)
        for name in files.keys() - digests.keys():
            sync(files[name])
            digests[name] = digest_of(files[name])
        whole = {
            "schema_version": SCHEMA_VERSION,
            **manifest,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "wall_seconds": round(time.time() - self.started, 3),
            "bytes": sum(file.stat().st_size for file in files.values()),
            "files": {n: {"bytes": f.stat().st_size, "sha256": digests[n]} for n, f in files.items()},
        }
        whole = json.loads(json.dumps(whole))  # as it will be read
        own = {_OWN: _own_digest(whole)}
        (self.path / MANIFEST).write_text(json.dumps(whole | own, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        sync(self.path / MANIFEST)
        _let_read(files.values(), as_if=self.path / MANIFEST)
        for pattern in _PASSING:
            for file in self.path.glob(pattern):
                file.unlink()
        sync(self.path)
        self.final.parent.mkdir(parents=True, exist_ok=True)
        self.path.rename(self.final)
        sync(self.final.parent)
        return Artifact(self.final, whole)


def _let_read(files: Iterable[Path], as_if: Path) -> None:
    """Gives files the rights that a new file has here; safetensors makes its own for their owner alone."""
    mode = as_if.stat().st_mode
    for file in files:
        if file.stat().st_mode != mode:
            with suppress(PermissionError):  # of a part that somebody else made
                file.chmod(mode)


def sync(path: Path) -> None:
    """Waits until a file's bytes, or a directory's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """A folder of artifacts, by kind and hash."""

    def __init__(self, root: Path) -> None:
        """Raises InputError where `root` cannot be made or written."""
        self.root = root.absolute()
        try:
            (self.root / ".building").mkdir(parents=True, exist_ok=True)
            probe = self.root / ".building" / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"cannot write to the store {self.root}: {error.strerror}; choose another with --store"
            ) from None

    def path(self, kind: str, hash: str) -> Path:
        """Where the artifact is, or will be."""
        return self.root / kind / hash

    def find(self, kind: str, hash: str) -> Artifact | None:
        """The published artifact, if there is one.

        Raises:
            WorldError: it is there but damaged.
        """
        path = self.path(kind, hash)
        return open_artifact(path) if _read_manifest(path) is not None else None

    @contextmanager
    def building(self, kind: str, hash: str) -> Iterator[Building]:
        """A directory to build in, held by this process alone; it stays when the body fails, for a resume.

        It holds what an unfinished run left, or the whole files of an artifact that was taken back.

        Raises:
            WorldError: another process is building the same artifact, or published it since the caller looked.
        """
        path = self.in_building(hash)
        with held(path.with_suffix(".lock")):
            final = self.path(kind, hash)
            if final.exists() and _read_manifest(final) is None:
                raise WorldError(f"{final} is in the way: it has no {MANIFEST}; move it away, or delete it")
            if self.find(kind, hash) is not None:
                raise WorldError(f"{final} was published by another process just now")
            path.mkdir(exist_ok=True)
            _finish_taking_back(path, _damaged_in(path))
            yield Building(path, final, time.time())

    @contextmanager
    def part(self, hash: str, name: str) -> Iterator[Path]:
        """A folder for one part of an artifact, held by this process alone, beside other parts but not beside the
        whole; it stays until `remove_parts`.

        Raises:
            WorldError: another process is making the same part, or the whole.
        """
        path = self.parts(hash) / name
        path.parent.mkdir(exist_ok=True)
        with held(self.in_building(hash).with_suffix(".lock"), shared=True), held(path.with_suffix(".lock")):
            path.mkdir(exist_ok=True)
            yield path

    def parts(self, hash: str) -> Path:
        """Where the parts of an artifact are, if there are any."""
        return self.in_building(hash + ".parts")

    def remove_parts(self, hash: str) -> None:
        """Removes the parts of an artifact that is published."""
        shutil.rmtree(self.parts(hash), ignore_errors=True)

    def is_building(self, hash: str) -> bool:
        """Whether an unfinished run, or an artifact that was taken back, lies where it is built."""
        return self.in_building(hash).is_dir()

    def take_back(self, kind: str, hash: str) -> dict[str, str] | None:
        """Takes a damaged artifact back to where it was built, without its damaged files, to be built again there.

        Where its manifest is damaged itself, those files are whole whose checksums stand in what is left of it.

        Returns:
            The damaged files with the checksums that they should have (empty where these are lost), none where all are
            whole; None where no such artifact is published.

        Raises:
            WorldError: another process is building it.
        """
        path, final = self.in_building(hash), self.path(kind, hash)
        with held(path.with_suffix(".lock")):
            damaged = _damaged_in(final)
            if damaged:
                shutil.rmtree(path, ignore_errors=True)
                final.rename(path)
                sync(final.parent)
                _finish_taking_back(path, damaged)
        return damaged

    def in_building(self, name: str) -> Path:
        """Where what is not published yet lies."""
        return self.root / ".building" / name


def _damaged_in(path: Path) -> dict[str, str] | None:
    """Damaged files by name, with the checksums that they should have, empty where these are lost; None where there is
    no artifact."""
    try:
        artifact = _read_manifest(path)
    except _DamagedManifestError:
        left = (path / MANIFEST).read_bytes()
        files = to_publish(path).items()
        return {MANIFEST: "", **{name: "" for name, file in files if digest_of(file).encode() not in left}}
    if artifact is None:
        return None
    return {name: artifact.manifest["files"][name]["sha256"] for name in damaged_files(artifact)}


def _finish_taking_back(path: Path, damaged: Mapping[str, str] | None) -> None:
    """Removes damaged files of an artifact that was taken back; sets its manifest aside, or removes it too."""
    if damaged is None:
        return
    for name in damaged.keys() - {MANIFEST}:
        (path / name).unlink(missing_ok=True)
    if MANIFEST in damaged:
        (path / MANIFEST).unlink()
    else:
        (path / MANIFEST).rename(path / BEFORE)


def to_publish(folder: Path) -> dict[str, Path]:
    """The files, by name, of which an artifact that is built in `folder` will consist, beside its manifest."""
    passing = {file for pattern in (MANIFEST, *_PASSING) for file in folder.glob(pattern)}
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file not in passing)
    return {str(file.relative_to(folder)): file for file in files}


def taken_back(folder: Path) -> dict[str, Any]:
    """The manifest of the damaged artifact that is built again in `folder`; empty where there was none."""
    file = folder / BEFORE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
